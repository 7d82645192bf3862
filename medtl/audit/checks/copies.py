"""The same image twice: leaks, conflicting labels, patients with two names, neighbouring slices."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from medtl.audit.checks.measured import FEWEST, Measured
from medtl.audit.facts.model import ImageFacts
from medtl.audit.findings import Finding
from medtl.audit.names import numbered
from medtl.audit.search.copies import Copy, copies_of_pictures, copies_of_volumes
from medtl.audit.search.thumbnails import as_rows, unpacked
from medtl.data.duplicates import joined
from medtl.runtime.cache import remembered_result

#: Part of the cache key; raise it whenever the search changes.
_FACT = "audit copies 4"

#: Median correlation from which neighbouring slices of patients are reported.
ALIKE = 0.7

#: Slices of a patient whose numbers differ by this much are neighbours.
NEXT = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """An image that is compared with all others."""

    one: Measured
    name: str
    path: Path
    facts: ImageFacts


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of two cases; ``way`` is "" for identical ones."""

    first: Seen
    second: Seen
    correlation: float
    way: str

    @property
    def identical(self) -> bool:
        return self.first.facts.content == self.second.facts.content

    @property
    def rank(self) -> tuple[bool, float]:
        """Larger for images that are more alike."""
        return self.identical, self.correlation

    @property
    def files(self) -> tuple[Path, ...]:
        return self.first.path, self.second.path

    @property
    def cases(self) -> tuple[str, str]:
        return self.first.one.case.id, self.second.one.case.id


def find_pairs(cohort: Sequence[Measured]) -> list[Pair]:
    """Pairs of cases with images that are copies of each other; each with the most alike."""
    seen = _each_file(cohort)
    best: dict[tuple[str, str], Pair] = {}
    for pair in (*_pairs(seen, flat=True), *_pairs(seen, flat=False)):
        known = best.get(pair.cases)
        if known is None or pair.rank > known.rank:
            best[pair.cases] = pair
    return list(best.values())


def check_copies(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """What pairs of copies mean for a split, for labels and for patients."""
    for pair in pairs:
        a, b = pair.first.one, pair.second.one
        how = "identical" if pair.identical else f"alike by {pair.correlation:.3f}"
        seen = f"{how}{f', {pair.way}' if pair.way else ''}"
        if _neighbours(pair):
            kind = "neighbouring-slices"
        elif a.side != b.side:
            kind, seen = "leak", f"{seen}: {a.side or 'one'} and {b.side or 'the other'}"
        else:
            kind = "exact-duplicate" if pair.identical else "near-duplicate"
        yield Finding(kind, pair.cases, seen, pair.files, pair.correlation)
        if kind == "neighbouring-slices":
            continue
        if a.case.class_name != b.case.class_name and a.case.class_name and b.case.class_name:
            classes = f"{a.case.class_name} and {b.case.class_name}"
            yield Finding("label-conflict", pair.cases, f"{how}: {classes}", pair.files, 1.0)
        elif _labels_differ(a, b) and pair.identical:
            yield Finding("label-conflict", pair.cases, "other label maps", pair.files, 1.0)
        if _whose(a) and _whose(b) and _whose(a) != _whose(b):
            names = f"{a.case.patient} and {b.case.patient}"
            yield Finding("two-names", pair.cases, names, pair.files, pair.correlation)


def check_patients(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Patients with cases on several sides."""
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for one in cohort:
        sides[_spelled(one.case.patient)].setdefault(one.side, one.case.id)
    for held in sides.values():
        if len(held) > 1:
            where = " and ".join(side or "no part" for side in held)
            yield Finding("patient-on-both-sides", tuple(held.values()), f"in {where}")


def check_neighbours(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """How alike the neighbouring slices of patients are, where each slice is a file."""
    slices: dict[str, list[tuple[int, Seen]]] = defaultdict(list)
    for seen in _each_file(cohort):
        number = numbered(seen.one.case.id)
        if seen.facts.flat and number and _whose(seen.one):
            slices[seen.one.case.patient].append((number[1], seen))
    alike = []
    for own in slices.values():
        own.sort(key=lambda pair: pair[0])
        rows = as_rows(np.stack([unpacked(seen.facts.thumbnail, flat=True) for _, seen in own]))
        for n in range(len(own) - 1):
            if own[n + 1][0] - own[n][0] == 1:
                alike.append(float(rows[n] @ rows[n + 1]))
    if len(alike) >= FEWEST and float(np.median(alike)) > ALIKE:
        count = sum(map(len, slices.values()))
        text = (
            f"{count} slices of {len(slices)} patients; neighbours correlate by "
            f"{np.median(alike):.2f} (median)"
        )
        yield Finding("neighbouring-slices", (), text, (), float(np.median(alike)))


def groups_of_cases(cohort: Sequence[Measured], pairs: Iterable[Pair]) -> dict[str, str]:
    """Case -> the first case that a chain of copies, or the patient's name, joins it to."""
    ids = [one.case.id for one in cohort]
    places = {name: number for number, name in enumerate(ids)}
    links = [(places[a], places[b]) for a, b in (pair.cases for pair in pairs)]
    first: dict[str, int] = {}
    for number, one in enumerate(cohort):
        if patient := _whose(one):
            links.append((first.setdefault(patient, number), number))
    return {name: ids[first] for name, first in zip(ids, joined(len(ids), links), strict=True)}


def _each_file(cohort: Iterable[Measured]) -> list[Seen]:
    """Every image; of a coloured picture one channel stands for all."""
    seen = []
    for one in cohort:
        used: set[Path] = set()
        for name, facts in one.facts.images.items():
            path = one.path_of(name)
            if facts.content and not (facts.flat and path in used):
                seen.append(Seen(one, name, path, facts))
                used.add(path)
    return seen


def _pairs(seen: Sequence[Seen], flat: bool) -> list[Pair]:
    own = [one for one in seen if one.facts.flat == flat]
    if len(own) < 2:
        return []
    thumbnails = np.stack([unpacked(one.facts.thumbnail, flat) for one in own])
    search = copies_of_pictures if flat else copies_of_volumes
    digest = hashlib.blake2b(repr(thumbnails.shape).encode() + thumbnails.tobytes()).hexdigest()
    rows = remembered_result(_FACT, digest, lambda: [astuple(one) for one in search(thumbnails)])
    copies = {(one.first, one.second): one for one in (Copy(*row) for row in rows)}
    for a, b in _equal(own):
        copies.setdefault((a, b), Copy(a, b, 1.0, ""))
    found = (
        Pair(own[a], own[b], min(1.0, one.correlation), one.way) for (a, b), one in copies.items()
    )
    return [pair for pair in found if pair.cases[0] != pair.cases[1]]


def _equal(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    by_content: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(seen):
        by_content[one.facts.content].append(number)
    for same in by_content.values():
        yield from combinations(same, 2)


def _neighbours(pair: Pair) -> bool:
    """Whether they are slices of a patient, of one class, with neighbouring numbers."""
    a, b = pair.first.one.case, pair.second.one.case
    if pair.identical or not pair.first.facts.flat or a.patient != b.patient:
        return False
    one, other = numbered(a.id), numbered(b.id)
    if one is None or other is None or a.class_name != b.class_name:
        return False
    return one[0] == other[0] and abs(one[1] - other[1]) <= NEXT


def _labels_differ(a: Measured, b: Measured) -> bool:
    one, other = a.facts.label, b.facts.label
    return one is not None and other is not None and one.content != other.content


def _whose(one: Measured) -> str:
    """The patient in one spelling; "" where the case's name is all that is known."""
    patient = _spelled(one.case.patient)
    return "" if patient.endswith(_spelled(one.case.id)) else patient


def _spelled(name: str) -> str:
    """``TCGA_FG_6692`` as ``TCGA-FG-6692``, in capitals."""
    return re.sub(r"[\W_]+", "-", name).strip("-").upper()
