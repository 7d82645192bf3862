"""A small data set of two structures that lie alike in every case, in the layout of MSD."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

EDGES = (40, 44, 36)


def write_structures(folder: Path, cases: int = 16, seed: int = 0) -> Path:
    """Write images of a textured background with two ellipsoids, and their labels 1 and 2."""
    random = np.random.default_rng(seed)
    rows = []
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    grid = np.stack(np.meshgrid(*map(np.arange, EDGES), indexing="ij"), axis=-1)
    for number in range(cases):
        labels = np.zeros(EDGES, np.uint8)
        away = random.normal(0, 0.8, 3)
        for value, centre in ((1, (20, 30, 13)), (2, (17, 14, 21))):
            place = np.array(centre) + away + random.normal(0, 0.4, 3)
            radii = np.array((6.0, 7.0, 5.0)) * random.uniform(0.9, 1.1, 3)
            labels[np.square((grid - place) / radii).sum(axis=-1) < 1] = value
        texture = gaussian_filter(random.normal(size=EDGES), 1.5)
        image = 300 + 400 * texture / texture.std() / 4 + 60 * (labels > 0)
        affine = np.diag((1.0, 1.0, 1.0, 1.0))
        for below, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", labels)):
            nib.save(nib.Nifti1Image(array, affine), folder / below / f"case_{number:03}.nii.gz")
        paths = {"image": f"./imagesTr/case_{number:03}.nii.gz"}
        rows.append({**paths, "label": f"./labelsTr/case_{number:03}.nii.gz"})
    content = {
        "name": "structures",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "numTraining": cases,
        "training": rows,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
