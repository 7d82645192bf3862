"""Volumes with many regions: small ones to train on, and one of the size of a whole-body CT.

Axes: I J K voxels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

#: Regions, each a block of its own grey.
REGIONS = 30

#: Voxels of the large volume, and the edge of all voxels.
LARGE, EDGE_MM = (512, 512, 600), 0.8


def write_training(folder: Path, cases: int = 5) -> Path:
    """Small cases in nnU-Net's format: every region is a block of a 5x3x2 arrangement."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        label_IJK = _blocks((80, 80, 80))
        _save(folder / "imagesTr" / f"case_{case}_0000.nii.gz", _image(label_IJK, case))
        _save(folder / "labelsTr" / f"case_{case}.nii.gz", label_IJK)
    labels: dict[str, Any] = {"background": 0}
    labels |= {f"organ_{n:02}": n for n in range(1, REGIONS + 1)}
    facts = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**facts, "numTraining": cases}))
    return folder


def write_large(folder: Path) -> Path:
    """One case with the same blocks, much larger."""
    folder.mkdir(parents=True)
    _save(folder / "large_0000.nii.gz", _image(_blocks(LARGE), 99))
    return folder


def _blocks(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A label map with each region once, and background between them."""
    label_IJK = np.zeros(shape, np.uint8)
    for number in range(REGIONS):
        place = []
        for edge, count, at in zip(
            shape, (5, 3, 2), np.unravel_index(number, (5, 3, 2)), strict=True
        ):
            step = edge // count
            place.append(slice(int(at) * step + step // 5, (int(at) + 1) * step - step // 5))
        label_IJK[tuple(place)] = number + 1
    return label_IJK


def _image(label_IJK: NDArray[np.uint8], seed: int) -> NDArray[np.int16]:
    """Hounsfield units that tell the regions, with noise; the patient fills the volume."""
    grey = np.concatenate(([-100], np.linspace(0, 1000, REGIONS))).astype(np.int16)
    image_IJK = grey[label_IJK]
    random = np.random.default_rng(seed)
    for slice_IJ in np.moveaxis(image_IJK, 2, 0):
        slice_IJ += random.integers(-8, 9, slice_IJ.shape, dtype=np.int16)
    return image_IJK


def _save(path: Path, array_IJK: NDArray[Any]) -> None:
    image = nibabel.Nifti1Image(array_IJK, np.diag([EDGE_MM] * 3 + [1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
