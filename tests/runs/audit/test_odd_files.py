"""Odd volumes, labels and folders: findings, and never a crash."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medtl import api
from medtl.errors import DataError

RANDOM = np.random.default_rng(0)


def volume(*shape: int) -> NDArray[np.float32]:
    return RANDOM.normal(100, 30, shape).astype(np.float32)


def write(folder: Path, image: NDArray, label: NDArray | None = None) -> Path:
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "a.nii.gz")
    if label is not None:
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "a_seg.nii.gz")
    return folder


def kinds(folder: Path) -> set[str]:
    return {one.kind for one in api.audit(folder).findings}


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 30, 30), (30, 30, 1), (64, 2, 64), (5, 5, 90)])
def test_small_volumes_are_no_faults(shape: tuple[int, ...], tmp_path: Path) -> None:
    assert not kinds(write(tmp_path, volume(*shape))) - {"saturated"}


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.full((9, 9, 9), np.nan, np.float32), "not-finite"),
        (volume(9, 9, 9).astype(np.float64) * 1e300, "not-finite"),
        (np.full((9, 9, 9), 7, np.float32), "constant"),
        (volume(9, 9, 9, 3), "unreadable"),
    ],
)
def test_broken_voxels_are_told(image: NDArray, kind: str, tmp_path: Path) -> None:
    assert kind in kinds(write(tmp_path, image))


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (volume(12, 12, 12), "fractional-label"),
        (np.full((12, 12, 12), np.nan, np.float32), "fractional-label"),
        (np.full((12, 12, 12), -3, np.int16), "label-values"),
        (RANDOM.integers(0, 60_000, (12, 12, 12)).astype(np.int32), "label-values"),
        (np.zeros((12, 12, 11), np.uint8), "label-grid"),
        (np.zeros((12, 12, 12, 2), np.uint8), "unreadable"),
    ],
)
def test_what_is_no_label_map_is_told(label: NDArray, kind: str, tmp_path: Path) -> None:
    assert kind in kinds(write(tmp_path, volume(12, 12, 12), label))


def test_labels_that_training_refuses_lie_on_another_grid(tmp_path: Path) -> None:
    write(tmp_path, volume(12, 12, 12))
    affine = np.eye(4)
    affine[0, 3] = 0.3  # more than a tenth of a voxel
    label = nib.Nifti1Image(np.ones((12, 12, 12), np.uint8), affine)
    nib.save(label, tmp_path / "a_seg.nii.gz")
    assert "label-grid" in kinds(tmp_path)


def test_volumes_beside_pictures_are_looked_at_apart(tmp_path: Path) -> None:
    for site, count in (("CS", 25), ("DU", 25)):
        for number in range(count):
            name = f"TCGA_{site}_{number:04}"
            picture = Image.fromarray(RANDOM.integers(0, 255, (40, 40), dtype=np.uint8))
            picture.save(tmp_path / f"{name}.png")
            if number < 3:
                nib.save(
                    nib.Nifti1Image(volume(9, 9, 9), np.eye(4)), tmp_path / f"volume_{name}.nii"
                )
    found = api.audit(tmp_path)
    assert len(found.cases) == 56 and not found.errors


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, volume(9, 9, 9))
    (tmp_path / "b.nii.gz").symlink_to("nowhere.nii.gz")
    with pytest.raises(DataError, match=r"1 link to nowhere .*b\.nii\.gz"):
        api.audit(tmp_path)
