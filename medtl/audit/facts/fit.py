"""How well a label map fits its image, where it is and where it might belong.

The measure is the correlation ratio: the share of the variance of the intensities in and around
the structures that the labels explain (Roche et al. 1998, "The correlation ratio as a new
similarity measure for multimodal image registration").

Axes: I J K voxels, canonical (RAS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from medtl.data.io.grids import bounding_box

#: Movements that are tried along each axis, in voxels.
STEPS = (1, 2, 3, 4, 6, 8)

#: How far around the structures intensities are looked at, in voxels.
MARGIN = 4

Labels = NDArray[np.int16]

Images = Sequence[NDArray[np.float32]]


def best_movement(values_IJK: Labels, images: Images) -> tuple[tuple[int, int, int], float]:
    """The movement of the labels along one axis that fits best, and its gain over none."""
    own = ratio(values_IJK, images)
    best, gain = (0, 0, 0), 0.0
    for axis in range(values_IJK.ndim):
        if values_IJK.shape[axis] <= 2 * MARGIN:
            continue
        for step in (sign * step for step in STEPS for sign in (1, -1)):
            if step >= values_IJK.shape[axis] // 4:
                continue
            better = ratio(shifted(values_IJK, axis, step), images) - own
            if better > gain:
                moved = [0, 0, 0]
                moved[axis] = step
                best, gain = (moved[0], moved[1], moved[2]), better
    return best, gain


def best_mirror(values_IJK: Labels, images: Images) -> tuple[int, float]:
    """The axis along which mirrored labels fit best, and the gain; -1 where none does."""
    own = ratio(values_IJK, images)
    best, gain = -1, 0.0
    for axis in range(values_IJK.ndim):
        if values_IJK.shape[axis] > 1:
            better = ratio(np.flip(values_IJK, axis), images) - own
            if better > gain:
                best, gain = axis, better
    return best, gain


def shifted(values_IJK: Labels, axis: int, step: int) -> Labels:
    """The labels, moved by ``step`` voxels; what leaves the volume is lost."""
    moved = np.zeros_like(values_IJK)
    to, of = [slice(None)] * values_IJK.ndim, [slice(None)] * values_IJK.ndim
    to[axis] = slice(max(step, 0), values_IJK.shape[axis] + min(step, 0))
    of[axis] = slice(max(-step, 0), values_IJK.shape[axis] - max(step, 0))
    moved[tuple(to)] = values_IJK[tuple(of)]
    return moved


def ratio(values_IJK: Labels, images: Images) -> float:
    """The mean correlation ratio of the images in and around the structures, from 0 to 1."""
    box = bounding_box(values_IJK > 0)
    if box is None:
        return 0.0
    wide = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box)
    near_IJK = binary_dilation(values_IJK[wide] > 0, iterations=MARGIN)
    labels = values_IJK[wide][near_IJK]
    counts = np.bincount(labels)
    there = counts > 0
    scores = []
    for image_IJK in images:
        levels = image_IJK[wide][near_IJK].astype(np.float64)
        levels -= levels.mean()
        total = float(np.square(levels).sum())
        sums = np.bincount(labels, levels)
        between = float((np.square(sums[there]) / counts[there]).sum())
        scores.append(between / total if total else 0.0)
    return float(np.mean(scores))
