"""What is filled and cleaned within the mask's box is what it would be in the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    binary_fill_holes,
    generate_binary_structure,
)

from medtl.data.io.foreground import enclosed, without_specks

SHAPE = (21, 17, 13)
FACES = generate_binary_structure(3, 1)

#: Corners of a box with something in it: in the middle, at one face, at all.
BOXES = [((5, 15), (4, 12), (3, 9)), ((0, 9), (8, 17), (2, 7)), ((0, 21), (0, 17), (0, 13))]


def _mask(box: tuple[tuple[int, int], ...], share: float, seed: int) -> np.ndarray:
    mask_IJK = np.zeros(SHAPE, bool)
    place = tuple(slice(*side) for side in box)
    random = np.random.default_rng(seed)
    mask_IJK[place] = random.random(mask_IJK[place].shape) < share
    return mask_IJK


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9, 1.0])
def test_holes_are_filled_as_scipy_fills_them(box, share) -> None:
    for seed in range(5):
        mask_IJK = _mask(box, share, seed)
        np.testing.assert_array_equal(enclosed(mask_IJK), binary_fill_holes(mask_IJK, FACES))


def test_an_empty_mask_stays_empty() -> None:
    assert not enclosed(np.zeros(SHAPE, bool)).any()


@pytest.mark.parametrize("box", BOXES)
def test_specks_are_what_an_opening_removes(box) -> None:
    """Where they are many, also at the faces, only what exceeds them is kept."""
    random = np.random.default_rng(0)
    mask_IJK = np.zeros(SHAPE, bool)
    mask_IJK[tuple(slice(*side) for side in box)] = True
    specks_IJK = ~binary_dilation(mask_IJK) & (random.random(SHAPE) < 0.1)
    array_IJK = np.where(mask_IJK, 100.0, np.where(specks_IJK, random.random(SHAPE) * 5, 0))
    array_IJK = array_IJK.astype(np.float32)
    shown_IJK = array_IJK > 0
    core_IJK = binary_erosion(shown_IJK, FACES, border_value=1)
    opened_IJK = binary_dilation(core_IJK, FACES) & shown_IJK
    clean_IJK = without_specks(array_IJK, shown_IJK)
    if (shown_IJK & ~opened_IJK).any():
        np.testing.assert_array_equal(clean_IJK, mask_IJK)
    else:
        assert clean_IJK is shown_IJK


def test_a_mask_without_specks_is_kept() -> None:
    mask_IJK = np.zeros(SHAPE, bool)
    mask_IJK[:9, 3:12, 4:] = True
    array_IJK = mask_IJK.astype(np.float32)
    assert without_specks(array_IJK, mask_IJK) is mask_IJK
