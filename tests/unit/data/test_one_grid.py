"""Images of a case on different grids come onto one, at the same places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

from medtl.data.case import Case, ImageFile
from medtl.data.io.images import read_header, read_volume
from medtl.data.io.resample_onto import resample_onto
from medtl.data.modality import Modality
from medtl.data.one_grid import on_one_grid, reference_of
from medtl.errors import DataError

CENTRE, RADIUS_MM = np.array([4.0, -6.0, 8.0]), 11.0
FLAIR, POST = Modality("flair"), Modality("t1ce")


def affine(spacing: tuple[float, float, float], turn: float, origin: np.ndarray) -> np.ndarray:
    c, s = np.cos(turn), np.sin(turn)
    found = np.eye(4)
    found[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    found[:3, 3] = origin
    return found


def save(path: Path, shape: tuple[int, int, int], to_mm: np.ndarray) -> ImageFile:
    """A ball with a smooth edge."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = index @ to_mm[:3, :3].T + to_mm[:3, 3]
    away = np.linalg.norm(places - CENTRE, axis=-1)
    values = (1000 / (1 + np.exp((away - RADIUS_MM) / 1.0))).astype(np.float32)
    image = nibabel.Nifti1Image(values, to_mm)
    image.set_qform(to_mm, 1)
    nibabel.save(image, path)
    return ImageFile(path)


def centre_of(file: ImageFile) -> np.ndarray:
    values_IJK, to_mm = read_volume(file)
    index = np.argwhere(values_IJK > 1)
    mass = values_IJK[values_IJK > 1]
    return (index * mass[:, None]).sum(0) / mass.sum() @ to_mm[:3, :3].T + to_mm[:3, 3]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    post = affine((1.0, 1.0, 3.0), 0.0, np.array([-26.0, -36.0, -25.0]))
    flair = affine((1.5, 1.2, 2.0), 0.4, np.array([-20.0, -56.0, -28.0]))
    images = {
        FLAIR: save(tmp_path / "flair.nii", (50, 60, 36), flair),
        POST: save(tmp_path / "post.nii", (60, 60, 22), post),
    }
    return Case("c", "p", images)


def test_places_stay_and_grids_are_those_of_t1_with_contrast(case: Case) -> None:
    found, said = on_one_grid(case, (FLAIR, POST))
    assert said == "flair laid onto the grid of t1ce"
    assert found.images[POST] == case.images[POST]
    one, other = (read_header(found.images[name]) for name in (FLAIR, POST))
    assert one.shape == other.shape
    assert_array_equal(one.affine, other.affine)
    assert_allclose(centre_of(found.images[FLAIR]), CENTRE, atol=0.05)
    again, _ = on_one_grid(case, (FLAIR, POST))
    assert again.images == found.images


def test_one_grid_is_left_as_it_is(case: Case) -> None:
    same = replace(case, images={FLAIR: case.images[POST], POST: case.images[POST]})
    assert on_one_grid(same, (FLAIR, POST)) == (same, "")


def test_without_contrast_the_finest_grid(case: Case) -> None:
    t1, t2 = Modality("t1"), Modality("t2")
    other = replace(case, images={t1: case.images[FLAIR], t2: case.images[POST]})
    assert on_one_grid(other, (t1, t2))[1] == "t1 laid onto the grid of t2"


def test_images_of_different_places_are_refused(case: Case, tmp_path: Path) -> None:
    away = affine((1.5, 1.2, 2.0), 0.4, np.array([300.0, 0.0, 0.0]))
    images = {**case.images, FLAIR: save(tmp_path / "away.nii", (50, 60, 36), away)}
    with pytest.raises(DataError, match=r"c: flair shows 0% of what t1ce shows; register"):
        on_one_grid(replace(case, images=images), (FLAIR, POST))


def test_a_lost_header_is_refused(case: Case, tmp_path: Path) -> None:
    values = np.asarray(nibabel.load(case.images[POST].path).dataobj)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "lost.nii")
    images = {**case.images, FLAIR: ImageFile(tmp_path / "lost.nii")}
    with pytest.raises(DataError, match=r"lost.nii has lost its header"):
        on_one_grid(replace(case, images=images), (FLAIR, POST))


def test_values_are_those_of_linear_interpolation() -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(12, 10, 8)).astype(np.float32)
    source = affine((1.0, 1.0, 1.0), 0.3, np.array([1.0, 2.0, 3.0]))
    onto = affine((0.9, 0.8, 0.7), -0.2, np.array([-1.0, 4.0, 4.0]))
    found = resample_onto(image, source, (9, 8, 7), onto)
    index = np.stack(np.meshgrid(*map(np.arange, (9, 8, 7)), indexing="ij"), axis=-1)
    places = index @ onto[:3, :3].T + onto[:3, 3]
    there = (places - source[:3, 3]) @ np.linalg.inv(source[:3, :3]).T
    expected = map_coordinates(image, np.moveaxis(there, -1, 0), order=1, mode="nearest")
    beyond = (there < -0.5) | (there > np.array(image.shape) - 0.5)
    expected[beyond.any(axis=-1)] = image.min()
    assert 0 < beyond.any(axis=-1).mean() < 0.9
    assert_allclose(found, expected, atol=1e-5)


def test_the_outer_half_of_a_voxel_is_the_voxel() -> None:
    image = np.full((2, 2, 3), 100.0, np.float32)
    image[0, 0, 0] = -1000.0
    thick, fine = np.diag([1.0, 1.0, 6.0, 1.0]), np.diag([1.0, 1.0, 1.0, 1.0])
    fine[2, 3] = -2.5  # 18 slices of 1 mm in 3 of 6 mm
    found = resample_onto(image, thick, (2, 2, 18), fine)
    assert_array_equal(found[1, 1], np.full(18, 100.0))


def test_voxels_of_one_size_but_for_rounding(tmp_path: Path) -> None:
    """DICOM and the NIfTI files made of it must give the same reference."""
    header = read_header(save(tmp_path / "a.nii", (9, 9, 9), affine((1.0, 1.0, 1.0), 0, CENTRE)))
    finer = replace(header, spacing_mm=(1.0, 1.0, 1 - 6e-8))
    t1, t2 = Modality("t1"), Modality("t2")
    assert reference_of({t2: finer, t1: header}) == reference_of({t1: header, t2: finer}) == t1
    assert reference_of({t1: header, t2: replace(header, spacing_mm=(1.0, 1.0, 0.9))}) == t2
