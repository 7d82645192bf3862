"""Files that cannot be read, and cases that lack some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from medtl.audit.checks.measured import FEWEST, USUAL, Measured
from medtl.audit.findings import Finding

#: Where fewer cases than this share have labels, they are no part of the data set.
LABELLED = 0.5


def check_files(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Problems of reading, and images and labels that other cases have."""
    for one in cohort:
        for name, (kind, text) in one.facts.problems.items():
            yield one.found(kind, f"{name}: {text}", name)
    yield from _missing(cohort)


def _missing(cohort: Sequence[Measured]) -> Iterator[Finding]:
    held = Counter(name for one in cohort for name in one.case.images)
    expected = [name for name, count in held.items() if count >= USUAL * len(cohort)]
    labelled = sum(one.case.target is not None for one in cohort)
    for one in cohort if len(cohort) >= FEWEST else ():
        absent = [name for name in expected if name not in one.case.images]
        if absent:
            yield one.found("missing-image", f"has no {', '.join(absent)}", *one.case.images)
        if one.case.target is None and labelled >= LABELLED * len(cohort):
            seen = f"has no labels, as {labelled} of {len(cohort)} cases have"
            yield one.found("missing-label", seen, *one.case.images)
