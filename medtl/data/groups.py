"""Groups of cases that a split keeps whole: copies of an image, or cases of one patient.

``medtl audit`` writes them as a table with the columns ``case`` and ``group``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

from medtl.data.case import Case, Cohort
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


def with_groups(cohort: Cohort, path: Path | None, reporter: Reporter) -> Cohort:
    """The cohort in which the patients of a group count as one patient.

    A case that the table does not name stays as it is, and without a table all cases do.

    Raises:
        DataError: the table cannot be read, names none of the cases, or joins all of them.
    """
    if path is None:
        return cohort
    groups = read_groups(path)
    named = [case for case in cohort.cases if case.id in groups]
    if not named:
        raise DataError(
            f"{path}: names none of the {len(cohort.cases)} cases, such as {cohort.cases[0].id}; "
            f"write it by medtl audit {cohort.root}"
        )
    first: dict[str, str] = {}
    links = [(first.setdefault(groups[case.id], case.patient), case.patient) for case in named]
    whose = joined_patients(cohort.cases, links)
    count = len(set(whose.values()))
    if count == 1:
        raise DataError(f"{path}: joins all cases, so none can be tested on")
    reporter.say(f"groups: {len(whose)} {cohort.counted} count as {count}, by {path.name}")
    left = len(cohort.cases) - len(named)
    if left:
        reporter.warn(f"{path.name}: names not all cases; {left} are groups of their own")
    return with_patients(cohort, whose)


def joined_patients(cases: Iterable[Case], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Patient -> the first patient, in the order of the cases, that a chain of links leads to."""
    patients = list(dict.fromkeys(case.patient for case in cases))
    place = {patient: number for number, patient in enumerate(patients)}
    numbers = joined(len(patients), [(place[a], place[b]) for a, b in links])
    return {patient: patients[n] for patient, n in zip(patients, numbers, strict=True)}


def with_patients(cohort: Cohort, whose: Mapping[str, str]) -> Cohort:
    """The cohort in which each patient counts as another one."""
    cases = tuple(replace(case, patient=whose[case.patient]) for case in cohort.cases)
    return replace(cohort, cases=cases)
