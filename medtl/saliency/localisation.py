"""Whether a map points at what is really there.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.intervals import interval
from medtl.metrics import mask_dice

#: Zhang et al. 2018 let a point miss by so many pixels.
TOLERANCE_VOXELS = 15
#: Every score and what it says.
SCORES = {
    "pointing": "the map's highest place lies within the mask (pointing game)",
    "pointing_15": f"or within {TOLERANCE_VOXELS} pixels of it, as in Zhang et al.",
    "dice": "Dice of the map, cut at a share of its maximum, and the mask",
    "chance_pointing": "a random place of the image lies within the mask: its share of the image",
    "centre_pointing": "the middle of the image lies within the mask",
}
Row = Mapping[str, Any]


def localisation(
    cam_IJK: NDArray[np.floating[Any]], mask_IJK: NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    """The :data:`SCORES` of one map against a mask that is not empty, both on one grid.

    Pointing game: Zhang et al. 2016 (2018, 10.1007/s11263-017-1059-x); of equally high places their
    mean position counts. A map that is 0 throughout points nowhere: it misses, with Dice 0.
    """
    from scipy.ndimage import distance_transform_edt

    middle = tuple((n - 1) // 2 for n in mask_IJK.shape)
    baselines = {
        "chance_pointing": float(mask_IJK.mean()),
        "centre_pointing": float(mask_IJK[middle]),
    }
    highest = float(cam_IJK.max())
    if highest <= 0:
        return {"pointing": 0.0, "pointing_15": 0.0, "dice": 0.0, **baselines}
    point = tuple(np.argwhere(cam_IJK == highest).mean(0).round().astype(int).tolist())
    off_voxels = float(distance_transform_edt(~mask_IJK)[point])
    return {
        "pointing": float(mask_IJK[point]),
        "pointing_15": float(off_voxels <= TOLERANCE_VOXELS),
        "dice": mask_dice(cam_IJK >= threshold * highest, mask_IJK),
        **baselines,
    }


def summarise_localisation(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """``{score: interval}`` over patients, the images of each averaged; rows have ``patient``."""
    summary = {}
    for score in SCORES:
        by_patient: dict[str, list[float]] = {}
        for row in rows:
            by_patient.setdefault(row["patient"], []).append(row[score])
        summary[score] = interval(by_patient, seed=seed).to_json()
    return summary
