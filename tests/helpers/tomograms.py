"""CT volumes that noise makes, and lists of them. Axes: I J K voxels."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from medtl.data.case import Case, ImageFile


def tomogram(folder: Path, name: str, offset: float = 0.0) -> Case:
    """A noisy image whose last axis runs to the right, with one brighter cube."""
    rng = np.random.default_rng(int(offset))
    image = rng.normal(-900 + offset, 20, (24, 20, 16)).astype(np.float32)
    label = np.zeros(image.shape, dtype=np.uint8)
    label[8:16, 8:16, 4:8] = 2
    image[label > 0] += 900
    affine = np.array([[0, 0, 3, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]], dtype=float)
    for kind, array in (("ct", image), ("seg", label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}_{kind}.nii.gz")
    images = {"ct": ImageFile(folder / f"{name}_ct.nii.gz")}
    target = ImageFile(folder / f"{name}_seg.nii.gz")
    return Case(name, name, images, target, {"organ": (2,)}, (0, 2))


def list_tomograms(folder: Path) -> Path:
    """A datalist of six CT cases in three folds."""
    training = []
    for n in range(6):
        case = tomogram(folder, f"c{n}", 10.0 * n)
        assert case.target is not None
        files = {"image": case.images["ct"].path.name, "label": case.target.path.name}
        training.append({"id": case.id, **files, "fold": n % 3})
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "2": "organ"}}
    path = folder / "list.json"
    path.write_text(json.dumps({**content, "training": training}))
    return path
