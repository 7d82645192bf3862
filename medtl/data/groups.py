"""Groups of cases that a split keeps whole: copies of an image, or cases of one patient.

``medtl audit`` writes them as a table with the columns ``case`` and ``group``.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

from medtl.data.case import Cohort
from medtl.data.duplicates import joined
from medtl.data.formats.text import read_text
from medtl.errors import DataError
from medtl.runtime.console import Reporter

CASE, GROUP = "case", "group"


def read_groups(path: Path) -> dict[str, str]:
    """Case -> group.

    Raises:
        DataError: no table with these columns, a row without one of them, or a case twice.
    """
    rows = csv.DictReader(StringIO(read_text(path)))
    if not {CASE, GROUP} <= set(rows.fieldnames or ()):
        raise DataError(f"{path}: needs the columns {CASE} and {GROUP}, as medtl audit writes them")
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        case, group = row[CASE], row[GROUP]
        if not case or not group:
            raise DataError(f"{path}: line {number} names no {GROUP if case else CASE}")
        if groups.setdefault(case, group) != group:
            raise DataError(f"{path}: line {number}: {case} is in two groups; keep one")
    return groups


def with_groups(cohort: Cohort, path: Path, reporter: Reporter) -> Cohort:
    """The cohort in which the patients of a group count as one patient.

    A case that the table does not name stays as it is.

    Raises:
        DataError: the table cannot be read, names none of the cases, or joins all of them.
    """
    groups = read_groups(path)
    patients = list(dict.fromkeys(case.patient for case in cohort.cases))
    place = {patient: number for number, patient in enumerate(patients)}
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(groups[case.id], place[case.patient]), place[case.patient])
        for case in cohort.cases
        if case.id in groups
    ]
    if not pairs:
        raise DataError(
            f"{path}: names none of the {len(cohort.cases)} cases, such as {cohort.cases[0].id}; "
            f"write it by medtl audit {cohort.root}"
        )
    whose = [patients[number] for number in joined(len(patients), pairs)]
    count = len(set(whose))
    if count == 1:
        raise DataError(f"{path}: joins all cases, so none can be tested on")
    reporter.say(f"groups: {len(patients)} {cohort.counted} count as {count}, by {path.name}")
    left = len(cohort.cases) - len(pairs)
    if left:
        reporter.warn(f"{path.name}: names not all cases; {left} are groups of their own")
    names = dict(zip(patients, whose, strict=True))
    cases = tuple(replace(case, patient=names[case.patient]) for case in cohort.cases)
    return replace(cohort, cases=cases)
