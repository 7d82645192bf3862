"""Lesion-wise scores of one region: lesions found, missed and false, and the Dice of each.

The Dice is that of BraTS 2023 for gliomas (challenge rules, and Saluja et al.,
https://github.com/rachitsaluja/BraTS-2023-Metrics), but for its volume threshold:

- Components are 26-connected, so a thin oblique rim is one lesion.
- A true lesion is the truth within one component of the truth dilated by 3 mm, so small components
  around a lesion are part of it. On a grid of 1 mm this is BraTS's three dilations by the
  18-neighbourhood; on a grid coarser than 3 mm there is no dilation.
- A predicted component belongs to every true lesion whose dilation it overlaps.
- The Dice of a lesion compares it with all whole components that belong to it. A lesion without
  such a component and a component without a lesion have Dice 0; ``lesion_dice`` is the mean over
  both and all other lesions.
- BraTS leaves out true lesions of at most 50 mm3. Here every lesion counts.

A lesion is found if its Dice is at least :data:`FOUND_DICE`, as a mask that only touches a lesion,
or floods the brain around it, has not found it. Other lesions are missed. A predicted component
that belongs to no lesion found is a false lesion.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


Integers = NDArray[np.signedinteger[Any]]


#: Dilation of the truth along an axis; the sum over the axes is at most twice that.
REACH_MM = 3.0


#: Least Dice of a lesion that counts as found.
FOUND_DICE = 0.1


def lesion_metrics(
    prediction_IJK: Mask, truth_IJK: Mask, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Lesion-wise Dice, detection scores and counts; the masks may be cropped to a box around both.

    With F lesions found: precision F / (F + false), recall F / (F + missed), F1 their harmonic
    mean. ``predicted_lesions`` counts components, several of which may be one lesion found. Every
    score is 1 if truth and prediction are empty, and 0 if one of them is.
    """
    from scipy.ndimage import label

    every_neighbour = np.ones((3, 3, 3), bool)
    zones_IJK, true = label(dilated(truth_IJK, spacing_mm), every_neighbour)
    parts_IJK, predicted = label(prediction_IJK, every_neighbour)
    zone, part = _overlaps(zones_IJK[prediction_IJK], parts_IJK[prediction_IJK], predicted)
    voxels = np.bincount(parts_IJK.ravel(), minlength=predicted + 1)
    every = true + 1  # the lesions, and 0: no lesion
    actual = np.bincount(zones_IJK[truth_IJK], minlength=every)[1:]
    hit = np.bincount(zones_IJK[truth_IJK & prediction_IJK], minlength=every)[1:]
    claimed = np.bincount(zone, voxels[part], minlength=every)[1:]
    lesion_dice = 2 * hit / (actual + claimed)
    is_found = lesion_dice >= FOUND_DICE
    found = int(is_found.sum())
    missed, false = true - found, predicted - len(np.unique(part[is_found[zone - 1]]))
    stray = predicted - len(np.unique(part))  # components that touch no lesion

    def share(of: float, whole: int) -> float:
        return of / whole if whole else float(true == predicted)  # 0/0: right if both are empty

    return {
        "lesion_dice": share(float(lesion_dice.sum()), true + stray),
        "lesion_precision": share(found, found + false),
        "lesion_recall": share(found, true),
        "lesion_f1": share(2 * found, 2 * found + false + missed),
        "true_lesions": true,
        "predicted_lesions": predicted,
        "missed_lesions": missed,
        "false_lesions": false,
    }


def _overlaps(zones: Integers, parts: Integers, most: int) -> tuple[Integers, Integers]:
    """The pairs of a zone and a part that share a voxel, each once."""
    pairs = zones.astype(np.int64) * (most + 1) + parts
    pairs = pairs[zones > 0]
    # Neighbours are mostly equal: this leaves little to sort.
    pairs = np.unique(pairs[np.diff(pairs, prepend=-1) != 0])
    zone, part = np.divmod(pairs, most + 1)
    return zone, part


def dilated(mask_IJK: Mask, spacing_mm: Sequence[float]) -> Mask:
    """The mask and all voxels up to ``REACH_MM`` away along each axis, and twice that in sum.

    By shifted views, which are fast if the reach is a few voxels.
    """
    reach = [int(REACH_MM / mm + 1e-6) for mm in spacing_mm]
    lines = [mask_IJK]  # lines[n]: up to n voxels away along K
    for n in range(1, reach[2] + 1):
        lines.append(lines[-1] | _shifted(mask_IJK, 2, n) | _shifted(mask_IJK, 2, -n))
    result_IJK = np.zeros_like(mask_IJK)
    for i in range(reach[0] + 1):
        plane_IJK = np.zeros_like(mask_IJK)  # the part that is i voxels away along I
        for j in range(-reach[1], reach[1] + 1):
            left_mm = 2 * REACH_MM - i * spacing_mm[0] - abs(j) * spacing_mm[1]
            k = min(reach[2], int(left_mm / spacing_mm[2] + 1e-6))
            plane_IJK |= _shifted(lines[k], 1, j)
        for side in {i, -i}:
            result_IJK |= _shifted(plane_IJK, 0, side)
    return result_IJK


def _shifted(mask_IJK: Mask, axis: int, by: int) -> Mask:
    """The mask shifted along an axis, with 0 at the border."""
    if by == 0:
        return mask_IJK
    moved_IJK = np.zeros_like(mask_IJK)
    to, source = np.moveaxis(moved_IJK, axis, 0), np.moveaxis(mask_IJK, axis, 0)
    if by > 0:
        to[by:] = source[:-by]
    else:
        to[:by] = source[-by:]
    return moved_IJK
