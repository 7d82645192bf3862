"""A quick look at the data before training, which warns in at most three lines."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from medtl.audit.checks.copies import Pair, check_copies, find_pairs, groups_of_cases
from medtl.audit.checks.geometry import check_geometry
from medtl.audit.checks.images import check_scales
from medtl.audit.checks.measured import Measured, each_image
from medtl.audit.checks.shortcuts import check_shortcuts
from medtl.audit.facts.quick import VERSION, quick_facts
from medtl.audit.findings import Finding, in_order
from medtl.audit.kinds import NOTE
from medtl.data.case import Case
from medtl.data.modality import Modality
from medtl.errors import shortened
from medtl.runtime.cache import remembered_result
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads

#: Part of the cache key; raise it whenever what is told changes.
_FACT = "audit quick look 2"

MOST_LINES = 3

#: The sides of a split.
TRAINED, TESTED = "training", "testing"

#: Names of patients would be kept in the cache; patients with two names show as copies.
_UNTOLD = ("two-names",)


def warn_of_data(
    cases: Sequence[Case],
    modalities: Sequence[Modality],
    tested: Collection[str],
    where: str,
    reporter: Reporter,
    *,
    grouped: bool = False,
) -> None:
    """Warn of copies across the split, odd headers and scales, and shortcuts to the class.

    The first of the modalities of each case is looked at. Nothing is told of images that cannot be
    read, as training refuses them.

    Args:
        tested: the patients of the locked test set.
        where: the data, as ``medtl audit`` takes them, to look closer.
        grouped: whether the split keeps groups of an audit whole.
    """
    found = look_before_training(cases, modalities, tested, reporter)
    for line, kept in lines_of(found, where, grouped=grouped):
        reporter.warn(line, kept)


def look_before_training(
    cases: Sequence[Case],
    modalities: Sequence[Modality],
    tested: Collection[str],
    reporter: Reporter,
) -> list[Finding]:
    """The errors and warnings among what a quick look finds, the worst first."""

    def measure(case: Case) -> Measured:
        side = TESTED if case.patient in tested else TRAINED
        return Measured(case, quick_facts(case, modalities), side)

    with threadpool_limits(1), reporter.progress("looking at the data", len(cases)) as advance:
        every = in_threads(measure, cases, advance)
    cohort = [one for one in every if one.facts.images]
    place = {one.case.id: number for number, one in enumerate(cohort)}

    def compute() -> list[Any]:
        return [
            (one.kind, [place[name] for name in one.cases], one.seen, one.score)
            for one in in_order(list(_found(cohort)))
            if one.about.severity != NOTE and one.kind not in _UNTOLD
        ]

    rows = remembered_result(_FACT, _digest(cohort), compute)
    return [
        Finding(kind, tuple(cohort[number].case.id for number in cases), seen, (), score)
        for kind, cases, seen, score in rows
    ]


def _found(cohort: Sequence[Measured]) -> Iterator[Finding]:
    pairs = find_pairs(cohort)
    groups = groups_of_cases(cohort, pairs)
    yield from check_copies([pair for pair in pairs if not _kept_together(pair)])
    yield from check_geometry(cohort)
    yield from check_scales(cohort)
    shown = [(one, facts) for one, _, facts in each_image(cohort) if facts.content]
    for flat in (True, False):
        if own := [pair for pair in shown if pair[1].flat == flat]:
            yield from check_shortcuts(own, groups)


def _kept_together(pair: Pair) -> bool:
    """Whether the split has both on one side as images of one patient, and with one class."""
    a, b = pair.first.one, pair.second.one
    return (a.case.patient, a.case.class_name, a.side) == (
        b.case.patient,
        b.case.class_name,
        b.side,
    )


def _digest(cohort: Sequence[Measured]) -> str:
    """Of all that the findings follow from."""
    digest = hashlib.blake2b(VERSION.encode())
    patients: dict[str, int] = {}
    for one in cohort:
        case = one.case
        patient = patients.setdefault(case.patient, len(patients))
        known = (case.id, patient, case.class_name, case.site, one.side)
        images = [
            (name, one.path_of(name).stem, facts.content, facts.placement)
            for _, name, facts in each_image([one])
        ]
        digest.update(repr((known, images)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def lines_of(
    found: Sequence[Finding], where: str, *, grouped: bool = False
) -> Iterator[tuple[str, str]]:
    """A line for each of the worst kinds, and what results keep of it: no names of cases."""
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for one in found:
        kinds[one.kind].append(one)
    shown = list(kinds.values())[:MOST_LINES]
    rest = list(kinds)[MOST_LINES:]
    for number, same in enumerate(shown, start=1):
        about, worst = same[0].about, same[0]
        count = f" ({len(same)} times)" if len(same) > 1 else ""
        whose = f"{shortened(worst.cases, 2)}: " if worst.cases else ""
        end = ""
        if number == len(shown):
            more = f"{len(rest)} more kinds, details" if rest else "details"
            groups = "" if grouped else " and groups for --groups"
            end = f"; {more}{groups}: medtl audit {where}"
        yield (
            f"{about.title}{count}: {whose}{worst.seen}; {about.advice}{end}",
            f"{about.title}{count}; {about.advice}; details: medtl audit",
        )
