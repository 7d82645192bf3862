"""Labels that define the regions otherwise than training did are warned of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medtl.data.case import Case, Cohort
from medtl.evaluation.segmentation import defined_otherwise


@pytest.mark.parametrize(
    ("nested", "exclusive", "values", "told"),
    [
        (False, True, {"a": (1,), "b": (2,)}, ""),
        (False, True, {"a": (3,), "b": (1, 2)}, ""),
        (
            False,
            True,
            {"a": (1, 2), "b": (2,)},
            "in data a voxel can be in two of the regions a, b",
        ),
        (True, False, {"a": (1, 2), "b": (2,)}, ""),
        (True, False, {"a": (1,), "b": (2,)}, "in data each does not hold the next of the regions"),
        (False, False, {"a": (1,), "b": (2,)}, ""),
        (True, True, {"a": (1,)}, ""),
    ],
)
def test_definitions(nested: bool, exclusive: bool, values: Any, told: str) -> None:
    trained: Any = SimpleNamespace(regions=tuple(values), nested=nested, exclusive=exclusive)
    cohort = Cohort(Path("data"), (Case("x", "x", {}, regions=values),))
    found = defined_otherwise(cohort, trained)
    assert found.startswith(told) and bool(found) == bool(told)
