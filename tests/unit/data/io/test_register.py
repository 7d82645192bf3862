"""Rigid registration finds a known movement between two contrasts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from medtl.data.case import Case, ImageFile
from medtl.data.io.images import read_header, read_volume
from medtl.data.io.nifti import write_nifti
from medtl.data.io.register import rigid
from medtl.data.io.resample_onto import resample_onto
from medtl.data.modality import Modality
from medtl.data.one_grid import on_one_grid
from medtl.errors import DataError
from medtl_brats.task import Brats

FLAIR, POST = Modality("flair"), Modality("t1ce")


def movement(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found = np.eye(4)
    found[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    found[:3, 3] = shift
    return found


@pytest.fixture(scope="module")
def case(small_phantom: Callable[..., Path]) -> Case:
    return Brats().cases(small_phantom(cases=1, size=64, sites=1, seed=0)).cases[0]


@pytest.fixture
def moved(case: Case, tmp_path: Path) -> tuple[Case, np.ndarray]:
    """FLAIR of a head that was turned by 6 degrees and shifted by 10 mm."""
    true = movement(6.0, (7.0, -5.0, 5.0))
    image_IJK, affine = read_volume(case.images[FLAIR])
    # What lies at p in the fixed image lies at true @ p in the moving one.
    path = tmp_path / "moved.nii"
    write_nifti(
        path,
        resample_onto(image_IJK, affine, image_IJK.shape, np.linalg.inv(true) @ affine),
        affine,
    )
    images = {FLAIR: ImageFile(path), POST: case.images[POST]}
    return Case("moved", "p", images), true


def _worst_mm(found: np.ndarray, true: np.ndarray) -> float:
    """The largest error within a head."""
    places = np.array([[*place, 1] for place in product((-60, 60), repeat=3)]).T
    return float(np.linalg.norm(((found - true) @ places)[:3], axis=0).max())


def test_known_movement_is_found(moved: tuple[Case, np.ndarray]) -> None:
    case, true = moved
    fixed, moving = (read_volume(case.images[name]) for name in (POST, FLAIR))
    found = rigid(*fixed, *moving)
    assert _worst_mm(np.eye(4), true) > 10
    assert _worst_mm(found, true) < 2.8  # a voxel
    np.testing.assert_allclose(found, rigid(*fixed, *moving), atol=1e-5)


def test_registered_images_fit(case: Case, moved: tuple[Case, np.ndarray]) -> None:
    found, said = on_one_grid(moved[0], (FLAIR, POST), register=True)
    assert said == "flair registered and laid onto the grid of t1ce"
    true_IJK, _ = read_volume(case.images[FLAIR])
    plain_IJK, _ = read_volume(moved[0].images[FLAIR])
    found_IJK, _ = read_volume(found.images[FLAIR])
    inside = true_IJK > 0
    plain, registered = (
        np.corrcoef(true_IJK[inside], each[inside])[0, 1] for each in (plain_IJK, found_IJK)
    )
    assert plain < 0.6
    assert registered > 0.9
    assert read_header(found.images[FLAIR]).shape == true_IJK.shape


def test_sheared_grids_are_refused(case: Case) -> None:
    image_IJK, affine = read_volume(case.images[POST])
    sheared = affine.copy()
    sheared[0, 2] += 1.0
    with pytest.raises(DataError, match="a sheared grid cannot be registered"):
        rigid(image_IJK, affine, image_IJK, sheared)
