"""Labels whose regions lie otherwise to each other than those of training are warned of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medtl.data.case import Case, Cohort
from medtl.evaluation.segmentation import defined_otherwise

APART, NESTED, CROSSED = (
    {"a": (1,), "b": (2,)},
    {"a": (1, 2), "b": (2,)},
    {"a": (1, 2), "b": (2, 3)},
)
EQUAL, WITHIN = {"a": (2,), "b": (2,)}, {"a": (2,), "b": (1, 2)}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("trained_on", "given", "expected"),
    [
        (APART, APART, ""),
        (APART, {"a": (3,), "b": (1, 2)}, ""),
        (APART, NESTED, "a holds region b"),
        (APART, CROSSED, "a overlaps region b"),
        (APART, EQUAL, "a equals region b"),
        (NESTED, NESTED, ""),
        (NESTED, {"a": (1, 2, 4), "b": (4,)}, ""),
        (NESTED, APART, "a excludes region b"),
        (NESTED, WITHIN, "a lies in region b"),
    ],
)
def test_definitions(trained_on: Any, given: Any, expected: str, named: bool) -> None:
    """``named``: the checkpoint records the label values, not only whether regions are nested."""
    regions = {"regions": {n: list(v) for n, v in trained_on.items()}, "labels": [0, 1, 2]}
    trained: Any = SimpleNamespace(
        regions=("a", "b"),
        nested=trained_on is NESTED,
        exclusive=trained_on is APART,
        names=regions if named else None,
    )
    cohort = Cohort(Path("data"), (Case("x", "x", {}, regions=given),))
    found = defined_otherwise(cohort, trained)
    assert found.startswith(f"in data region {expected}") if expected else not found


def test_overlap_is_known_from_the_recorded_values_alone() -> None:
    names = {"regions": {n: list(v) for n, v in CROSSED.items()}, "labels": [0, 1, 2, 3]}
    flags = {"regions": ("a", "b"), "nested": False, "exclusive": False}
    cohort = Cohort(Path("data"), (Case("x", "x", {}, regions=APART),))
    recorded: Any = SimpleNamespace(**flags, names=names)
    unrecorded: Any = SimpleNamespace(**flags, names=None)
    assert "a excludes region b, unlike in training" in defined_otherwise(cohort, recorded)
    assert not defined_otherwise(cohort, unrecorded)
