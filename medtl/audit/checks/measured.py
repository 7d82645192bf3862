"""What the checks read: cases with their facts, and what is usual among them.

Axes: N case.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medtl.audit.facts.model import LABEL, CaseFacts, ImageFacts
from medtl.audit.findings import Finding
from medtl.data.case import Case
from medtl.data.modality import Modality
from medtl.shift.features.texture import MAD

#: Fewer cases have no usual value.
FEWEST = 5

#: What at least this share of the cases have is usual.
USUAL = 0.8

#: Normal deviations, by the median absolute deviation, from which a case is unlike the others.
FAR = 6.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A case, its facts, and its side: the folder that it was found in, and its part."""

    case: Case
    facts: CaseFacts
    side: str = ""

    def path_of(self, name: str) -> Path:
        """The file of a modality, or of the label map."""
        label = self.case.target or self.case.mask
        file = label if name == LABEL else self.case.images[Modality(name)]
        assert file is not None  # facts of labels have a file
        return file.path

    @property
    def paths(self) -> list[Path]:
        """All its files."""
        case = self.case
        others = (case.target, case.mask)
        return [file.path for file in (*case.images.values(), *others) if file is not None]

    def found(self, kind: str, seen: str, *names: str, score: float | None = None) -> Finding:
        """A finding about this case and the files of these modalities."""
        files = tuple(dict.fromkeys(self.path_of(name) for name in names))
        return Finding(kind, (self.case.id,), seen, files, score)


class Textures(NamedTuple):
    """Names of features, and a row of them for each image."""

    columns: list[str]
    rows: NDArray[np.float64]


def each_image(cohort: Iterable[Measured]) -> Iterator[tuple[Measured, str, ImageFacts]]:
    """Every image with its case and modality."""
    for one in cohort:
        for name, facts in one.facts.images.items():
            yield one, name, facts


def by_modality(cohort: Iterable[Measured]) -> dict[str, list[tuple[Measured, ImageFacts]]]:
    groups: dict[str, list[tuple[Measured, ImageFacts]]] = defaultdict(list)
    for one, name, facts in each_image(cohort):
        groups[name].append((one, facts))
    return groups


def usual(values: Sequence[Any], share: float = USUAL) -> Any:
    """The value of at least this share of the cases; None where there is none or they are few."""
    if len(values) < FEWEST:
        return None
    value, count = Counter(values).most_common(1)[0]
    return value if count >= share * len(values) else None


def deviations(values: Sequence[float], least: float = 0.0) -> NDArray[np.float64]:
    """How far each value lies from the median, in robust standard deviations.

    Args:
        least: a deviation below which the values count as equal.
    """
    values_N = np.asarray(values, dtype=np.float64)
    middle, spread = middle_and_spread(values_N)
    return np.asarray((values_N - middle) / max(float(spread), least, 1e-12))


def middle_and_spread(
    values_N: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The median over the cases, and the robust standard deviation around it."""
    middle = np.median(values_N, axis=0)
    return middle, np.asarray(MAD * np.median(np.abs(values_N - middle), axis=0))


def textures(images: Sequence[ImageFacts], families: tuple[str, ...] = ("",)) -> Textures:
    """The features of the images' appearance; ``families``: what their names begin with."""
    columns = [key for key in images[0].texture if key.startswith(families)]
    rows = [[facts.texture.get(key, 0.0) for key in columns] for facts in images]
    return Textures(columns, np.array(rows))


def grouped(findings: Iterable[Finding], cohort: Sequence[Measured]) -> list[Finding]:
    """Findings of one kind about several slices of a patient, as one."""
    patients = {one.case.id: one.case.patient for one in cohort}
    flat = {one.case.id for one in cohort if any(facts.flat for facts in one.facts.images.values())}
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        first = finding.cases[0] if finding.cases else ""
        whose = patients.get(first, first) if first in flat and len(finding.cases) == 1 else first
        groups[finding.kind, whose].append(finding)
    return [_joined(group) for group in groups.values()]


def _joined(group: Sequence[Finding]) -> Finding:
    first = group[0]
    if len(group) == 1:
        return first
    cases = tuple(dict.fromkeys(case for one in group for case in one.cases))
    files = tuple(dict.fromkeys(file for one in group for file in one.files))
    count = len(cases) - 1
    more = f" (and in {count} more case{'s' if count > 1 else ''})" if count else ""
    scores = [one.score for one in group if one.score is not None]
    return Finding(first.kind, cases, first.seen + more, files, max(scores, default=None))
