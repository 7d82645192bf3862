"""Label maps of random region definitions, against the definition spelled out voxel by voxel.

Axes: L region, N voxel.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.data.case import Case
from medtl.data.cohort import region_masks
from medtl.data.label_scheme import LabelScheme, first_patterns, painted_over
from medtl.inference.segmentation import decide

#: Regions of BraTS-PED, several of which others hold.
PED = {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,), "NET": (2,), "CC": (3,), "ED": (4,)}
CROSSED = {"A": (1, 3), "B": (2, 3)}


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Up to five regions of up to seven label values, in any order, equal ones among them."""
    values = st.lists(st.integers(1, 7), min_size=1, max_size=5, unique=True).map(tuple)
    return dict(zip("ABCDE", draw(st.lists(values, min_size=1, max_size=5)), strict=False))


def patterns(regions: dict[str, tuple[int, ...]]) -> set[tuple[bool, ...]]:
    """Of every value, background included."""
    return {tuple(value in own for own in regions.values()) for value in range(8)}


def settled(regions: dict[str, tuple[int, ...]], logits_LN: np.ndarray, **how: bool):
    """The scheme, the predicted masks and the settled ones, flat."""
    scheme = LabelScheme.of(regions, tuple(regions))
    logits = torch.tensor(logits_LN)[:, None, None]
    masks = decide(logits, **{"nested": False, "exclusive": False, **how})
    found = scheme.settle(masks, logits.numpy())
    return scheme, masks[:, 0, 0], found


@settings(deadline=None, max_examples=60, derandomize=True)
@given(definitions(), st.integers(0, 2**32 - 1))
def test_what_the_values_hold_comes_back_and_the_rest_is_the_nearest(regions, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits_LN = random.normal(0, 3, (len(regions), 80)).astype(np.float32)
    scheme, masks_LN, found = settled(regions, logits_LN)
    label_IJK = scheme.paint(found.masks_LIJK)
    read_back = region_masks(label_IJK, Case("c", "c", {}, regions=regions), tuple(regions))
    np.testing.assert_array_equal(read_back, found.masks_LIJK)  # the file holds what is scored
    legal = sorted(patterns(regions))
    moved = np.zeros(len(regions), int)
    for n, predicted in enumerate(map(tuple, masks_LN.T.tolist())):
        got = tuple(found.masks_LIJK[:, 0, 0, n].tolist())
        assert got in legal
        if predicted in legal:
            assert got == predicted
            continue
        # The likelihood of each pattern, if the regions were independent.
        probability_L = 1 / (1 + np.exp(-logits_LN[:, n].astype(float)))
        likelihood = {
            own: np.prod(np.where(own, probability_L, 1 - probability_L)) for own in legal
        }
        assert likelihood[got] == pytest.approx(max(likelihood.values()), rel=1e-6)
        moved += np.not_equal(got, predicted)
    assert found.moved == tuple(moved)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(definitions(), st.integers(0, 2**32 - 1))
def test_a_scheme_that_tells_all_moves_nothing(regions, seed: int) -> None:
    logits_LN = np.random.default_rng(seed).normal(0, 3, (len(regions), 200)).astype(np.float32)
    sets = [set(own) for own in regions.values()]
    nested = all(a >= b for a, b in itertools.pairwise(sets))
    exclusive = not any(a & b for a, b in itertools.combinations(sets, 2))
    scheme, masks_LN, found = settled(regions, logits_LN, nested=nested, exclusive=exclusive)
    if scheme.tells(nested=nested, exclusive=exclusive):
        assert not any(found.moved)
        np.testing.assert_array_equal(found.masks_LIJK[:, 0, 0], masks_LN)
    else:
        possible = {
            tuple(decide(torch.tensor(signs)[:, None, None, None], nested=nested,
                         exclusive=exclusive).ravel().tolist())
            for signs in itertools.product((-1.0, 1.0), repeat=len(regions))
        }  # fmt: skip
        assert not possible <= patterns(regions)


def test_crossed_regions_keep_each_its_value() -> None:
    logits = np.array([[-1.0, 1, -1, 1], [-1, -1, 1, 1]])
    scheme, _, found = settled(CROSSED, logits)
    assert scheme.tells(nested=False, exclusive=False)
    assert scheme.paint(found.masks_LIJK).ravel().tolist() == [0, 1, 2, 3]
    assert not any(found.moved)


def test_a_tumour_without_a_part_becomes_its_likeliest_part() -> None:
    logits = np.array(
        [  # a part; tumour core alone; whole tumour alone, once against all parts; two parts
            [5.0, 5, 2, 2, 5],
            [5, 5, -5, -5, 5],
            [5, -1, -5, -9, 4],
            [-5, -2, -5, -9, 3],
            [-5, -3, -5, -9, -5],
            [-5, -9, -1, -9, -5],
        ]
    )
    scheme, _, found = settled(PED, logits)
    assert scheme.paint(found.masks_LIJK).ravel().tolist() == [1, 1, 4, 0, 1]
    assert found.moved == (1, 0, 1, 1, 0, 1)
    assert not scheme.tells(nested=False, exclusive=False)
    assert scheme.describe().startswith(
        "the label values hold 4 of the 63 combinations of WT, TC, ET, NET, CC, ED: "
    )
    assert "WT+TC+ET" in scheme.describe() and "WT+ED" in scheme.describe()


def test_the_first_value_of_equal_ones_is_written() -> None:
    """As ``regions_class_order`` puts first."""
    masks = np.array([[True, True, False], [False, True, False]])[:, None, None]
    scheme = LabelScheme.of({"core": (3, 1, 4), "ET": (4,)}, ("core", "ET"))
    assert scheme.paint(masks).ravel().tolist() == [3, 4, 0]


def test_many_regions_are_told_apart() -> None:
    count = 70  # more than the bits of an integer
    regions = {f"r{n}": (n + 1,) for n in range(count)}
    scheme = LabelScheme.of(regions, tuple(regions))
    masks = np.eye(count, dtype=bool)[:, None, None]
    assert scheme.paint(masks).ravel().tolist() == list(range(1, count + 1))


def test_infinite_logits_are_no_trouble() -> None:
    logits = np.array([[np.inf, np.inf], [-3.0, np.inf], [-np.inf, np.inf]])
    scheme, _, found = settled({"A": (1, 2), "B": (1,), "C": (2,)}, logits)
    assert scheme.paint(found.masks_LIJK).ravel().tolist() == [1, 1]


@pytest.mark.parametrize("count", [1, 3, 8, 9, 16])
def test_the_table_of_combinations_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Many regions have no table; what they come to is the same."""
    random = np.random.default_rng(count)
    regions = tuple(f"r{n}" for n in range(count))
    values_of = {
        name: tuple(
            int(value) for value in np.flatnonzero(random.random(40) < 0.3) + 1 + 300 * (n == 2)
        )
        for n, name in enumerate(regions)
    }
    scheme = LabelScheme.of(values_of, regions)
    logits_LIJK = random.normal(size=(count, 9, 8, 7)).astype(np.float32)
    found = []
    for tabled in (16, 0):
        monkeypatch.setattr("medtl.data.label_scheme._TABLED", tabled)
        settled = scheme.settle(logits_LIJK > 0, logits_LIJK)
        found.append((settled.masks_LIJK, settled.moved, scheme.paint(settled.masks_LIJK)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[0][2].dtype == found[1][2].dtype


@pytest.mark.parametrize(
    "values_of",
    [
        {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)},
        {"WT": (2, 1, 3), "TC": (1, 3), "ET": (3,)},  # regions_class_order 2, 1, 3
        {"A": (1, 3), "B": (2, 3), "C": (3,)},  # two that overlap
    ],
)
def test_regions_painted_over_one_another(values_of: dict[str, tuple[int, ...]]) -> None:
    """As nnU-Net has it: ``for n, value in enumerate(order): label[mask[n]] = value``."""
    masks_LIJK = np.random.default_rng(0).random((3, 6, 7, 8)) < 0.4
    expected_IJK = np.zeros(masks_LIJK.shape[1:], int)
    for mask_IJK, values in zip(masks_LIJK, values_of.values(), strict=True):
        expected_IJK[mask_IJK] = values[0]
    regions = tuple(values_of)
    found_LIJK = painted_over(masks_LIJK, first_patterns(values_of, regions))
    for own_IJK, values in zip(found_LIJK, values_of.values(), strict=True):
        np.testing.assert_array_equal(own_IJK, np.isin(expected_IJK, values))
    painted_IJK = LabelScheme.of(values_of, regions).paint(found_LIJK)
    np.testing.assert_array_equal(painted_IJK, expected_IJK)


def test_regions_painted_over_one_another_in_other_values() -> None:
    """The model's values say which regions a voxel is in, the data's how that is written."""
    model = {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}
    data = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}  # 1 is the core here
    regions = tuple(model)
    masks_LIJK = np.eye(3, dtype=bool)[:, :, None, None]
    painted_LIJK = painted_over(masks_LIJK, first_patterns(model, regions))
    scheme = LabelScheme.of(data, regions)
    found = scheme.settle(painted_LIJK, np.zeros(painted_LIJK.shape))
    assert scheme.paint(found.masks_LIJK).ravel().tolist() == [2, 1, 4]
    assert found.moved == (0, 0, 0)
