"""Lesions of one region: which were found, missed or invented, and how well each was outlined.

The definition is that of BraTS 2023 for gliomas (challenge rules, and Saluja et al.,
https://github.com/rachitsaluja/BraTS-2023-Metrics), but for its volume threshold:

- Components are 26-connected: a thin rim that runs askew through the voxels is one lesion.
- One true lesion is what lies in one component of the truth dilated by 3 mm, so that splinters
  around a lesion are part of it. On a grid of 1 mm these are BraTS's three dilations by the
  18-neighbourhood; on a grid coarser than 3 mm nothing is dilated.
- A predicted component belongs to every true lesion whose dilation it meets, in one voxel at least.
  A lesion to which none belongs is missed; a component that belongs to none is a false lesion.
- The Dice of a lesion takes it against all components that belong to it, whole. Missed and false
  lesions have Dice 0; ``lesion_dice`` is the mean over true and false lesions.
- BraTS leaves true lesions of at most 50 mm3 out. Here every lesion counts.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


Integers = NDArray[np.signedinteger[Any]]


#: How far the truth is dilated along an axis; the offsets of all axes add up to twice that at most.
REACH_MM = 3.0


def lesion_metrics(
    prediction_IJK: Mask, truth_IJK: Mask, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Lesion-wise Dice, detection scores and counts; the masks may be cut to a box around both.

    With F lesions found: precision F / (F + false), recall F / (F + missed), F1 their harmonic
    mean. ``predicted_lesions`` counts components, so that several may make one lesion found.
    Truth and prediction empty: every score 1. One of them empty: every score 0.
    """
    from scipy.ndimage import label

    every_neighbour = np.ones((3, 3, 3), bool)
    zones_IJK, true = label(dilated(truth_IJK, spacing_mm), every_neighbour)
    parts_IJK, predicted = label(prediction_IJK, every_neighbour)
    zone, part = _meetings(zones_IJK[prediction_IJK], parts_IJK[prediction_IJK], predicted)
    voxels = np.bincount(parts_IJK.ravel(), minlength=predicted + 1)

    def per_lesion(zones: Integers, weights: Integers | None = None) -> NDArray[Any]:
        return np.bincount(zones, weights, minlength=true + 1)[1:]

    actual = per_lesion(zones_IJK[truth_IJK])
    hit = per_lesion(zones_IJK[truth_IJK & prediction_IJK])
    claimed = per_lesion(zone, voxels[part])
    found = int((claimed > 0).sum())
    missed, false = true - found, predicted - len(np.unique(part))

    def share(of: float, whole: int) -> float:
        return of / whole if whole else float(true == predicted)  # 0/0: right if both are empty

    return {
        "lesion_dice": share(float((2 * hit / (actual + claimed)).sum()), true + false),
        "lesion_precision": share(found, found + false),
        "lesion_recall": share(found, true),
        "lesion_f1": share(2 * found, 2 * found + false + missed),
        "true_lesions": true,
        "predicted_lesions": predicted,
        "missed_lesions": missed,
        "false_lesions": false,
    }


def _meetings(zones: Integers, parts: Integers, most: int) -> tuple[Integers, Integers]:
    """Each pair of a zone and a part that share a voxel, once; voxels in no zone are left out."""
    pairs = zones.astype(np.int64) * (most + 1) + parts
    pairs = pairs[zones > 0]
    # Neighbours are mostly alike: what is left to sort is little.
    pairs = np.unique(pairs[np.diff(pairs, prepend=-1) != 0])
    zone, part = np.divmod(pairs, most + 1)
    return zone, part


def dilated(mask_IJK: Mask, spacing_mm: Sequence[float]) -> Mask:
    """The mask and all voxels up to ``REACH_MM`` away along each axis, twice that in sum.

    Shifted views: fast where the reach is a few voxels.
    """
    reach = [int(REACH_MM / mm + 1e-6) for mm in spacing_mm]
    lines = [mask_IJK]  # lines[n]: up to n voxels away along K
    for n in range(1, reach[2] + 1):
        lines.append(lines[-1] | _shifted(mask_IJK, 2, n) | _shifted(mask_IJK, 2, -n))
    result_IJK = np.zeros_like(mask_IJK)
    for i in range(reach[0] + 1):
        plane_IJK = np.zeros_like(mask_IJK)  # all that is i voxels away along I, moved back
        for j in range(-reach[1], reach[1] + 1):
            left_mm = 2 * REACH_MM - i * spacing_mm[0] - abs(j) * spacing_mm[1]
            k = min(reach[2], int(left_mm / spacing_mm[2] + 1e-6))
            plane_IJK |= _shifted(lines[k], 1, j)
        for side in {i, -i}:
            result_IJK |= _shifted(plane_IJK, 0, side)
    return result_IJK


def _shifted(mask_IJK: Mask, axis: int, by: int) -> Mask:
    """The mask moved along an axis; what leaves the volume is lost."""
    if by == 0:
        return mask_IJK
    moved_IJK = np.zeros_like(mask_IJK)
    to, source = np.moveaxis(moved_IJK, axis, 0), np.moveaxis(mask_IJK, axis, 0)
    if by > 0:
        to[by:] = source[:-by]
    else:
        to[:by] = source[-by:]
    return moved_IJK
