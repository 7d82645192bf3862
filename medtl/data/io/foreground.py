"""Foreground: the voxels that show the patient.

Axes: I J K voxels.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from medtl.data.io.grids import bounding_box

#: A constant counts as background if it fills at least this share of the border voxels ...
MIN_BORDER_SHARE = 0.5


#: ... and this share of the volume: scanners blank a few corners of noisy images.
MIN_VOLUME_SHARE = 0.1


#: Components smaller than this share of the largest are not part of the head.
LEAST_PART = 0.05


#: Relative to the range of values, so that rounding in storage is not foreground.
TOLERANCE = 1e-6


def foreground(array_IJK: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the head or brain, whatever the value of the background.

    In skull-stripped files the background has one value: 0, or a negative constant after z-scoring;
    all other voxels are foreground. In raw files the background is noise: they are split by Otsu's
    threshold (Otsu 1979), if the border is darker than it. An image without background is all
    foreground, a constant one has none.
    """
    mask_IJK = within_uniform(array_IJK)
    if mask_IJK is not None:
        return mask_IJK
    threshold = _otsu(array_IJK)
    if np.median(_border(array_IJK)) > threshold:
        return np.ones(array_IJK.shape, dtype=bool)
    return np.asarray(array_IJK > threshold)


def head_box(image_CIJK: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask (IJK) of the smallest box that holds the head in every channel.

    Letters in the corners, scales and small components are left out. If no head is found, the mask
    is the whole image.
    """
    box_IJK = np.zeros(image_CIJK.shape[1:], dtype=bool)
    mask_IJK = np.logical_or.reduce([foreground(channel_IJK) for channel_IJK in image_CIJK])
    parts_IJK, _ = label(mask_IJK)
    sizes = np.bincount(parts_IJK.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes >= max(1, LEAST_PART * sizes.max()))
    box_IJK[bounding_box(np.isin(parts_IJK, large)) or ...] = True
    return box_IJK


def within_uniform(array_IJK: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Mask of all voxels that differ from a uniform background; None without such a background.

    The mask of a constant image is empty.
    """
    low, high = float(array_IJK.min()), float(array_IJK.max())
    if low == high:
        return np.zeros(array_IJK.shape, dtype=bool)
    tolerance = TOLERANCE * (high - low)
    border = _border(array_IJK)
    corners = [array_IJK[ends] for ends in product((0, -1), repeat=3)]
    values, counts = np.unique(corners, return_counts=True)
    background = float(values[counts.argmax()])
    mask_IJK = array_IJK > background + tolerance
    if low < background - tolerance:
        mask_IJK |= array_IJK < background - tolerance
    border_share = np.count_nonzero(np.abs(border - background) <= tolerance) / border.size
    volume_share = 1 - np.count_nonzero(mask_IJK) / mask_IJK.size
    if counts.max() > 1 and border_share >= MIN_BORDER_SHARE and volume_share >= MIN_VOLUME_SHARE:
        return np.asarray(mask_IJK)
    return None


def enclosed(mask_IJK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: all voxels that are not connected to the volume's faces."""
    around_IJK, _ = label(~mask_IJK)
    at_faces = np.unique(_border(around_IJK))
    return ~np.isin(around_IJK, at_faces[at_faces > 0])


def _border(array_IJK: NDArray[Any]) -> NDArray[Any]:
    faces = [np.moveaxis(array_IJK, axis, 0)[end] for axis in range(3) for end in (0, -1)]
    return np.concatenate([face.ravel() for face in faces])


def _otsu(array_IJK: NDArray[Any]) -> float:
    # Without clipping, the brightest voxels (vessels, fat) would put air and tissue in one bin.
    sample = array_IJK.ravel(order="K")[:: max(1, array_IJK.size // 1_000_000)]
    low, high = np.percentile(sample, (0, 99.5))
    if low == high:
        return float(low)
    counts, edges = np.histogram(np.clip(sample, low, high), bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    return float(edges[1:-1][between.argmax()])
