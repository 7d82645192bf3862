"""Names that say a side switch flips off; names that only hold such letters do not."""

from __future__ import annotations

import pytest

from medtl.data.sides import naming_sides, sided_axes

SIDES = [
    "kidney_L",
    "kidney_R",
    "lh.hippocampus",
    "rh.x",
    "Left-Hippocampus",
    "hippocampus-left",
    "lung_r",
    "L-kidney",
    "leftkidney",
    "KidneyL",
    "ctx-lh-insula",
    "Left",
    "right",
    "R.lung",
    "eye_rt",
]
OTHERS = [
    "vertebra_L1",
    "L1",
    "L5",
    "brain",
    "tumour",
    "bright",
    "grade_1",
    "liver",
    "colon",
    "T1_lesion",
    "ET",
    "WT",
    "ring",
    "cerebral",
    "cleft_palate",
    "region_all",
    "upright",
    "l",
]


@pytest.mark.parametrize("name", SIDES)
def test_names_of_sides(name: str) -> None:
    assert naming_sides([name, "brain"]) == [name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names(name: str) -> None:
    assert naming_sides([name, "brain"]) == []


def test_two_letters_are_two_sides() -> None:
    assert naming_sides(["L", "R", "brain"]) == ["L", "R"]


def test_opposite_ends_switch_the_flips_of_their_axis_off() -> None:
    hippocampus = ["Anterior", "Posterior"]
    assert sided_axes(hippocampus) == {1: hippocampus}
    assert sided_axes(["posterior fossa", "tumour"]) == {}  # without its opposite
    lobes = ["upper lobe left", "lower lobe left", "trachea"]
    assert sided_axes(lobes) == {0: lobes[:2], 2: lobes[:2]}
