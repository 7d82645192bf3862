"""Foreground: the voxels that show the patient.

Axes: I J K voxels.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from medtl.data.io.grids import Box, bounding_box

#: A constant counts as background if it fills at least this share of the border voxels ...
MIN_BORDER_SHARE = 0.5


#: ... and this share of the volume: scanners blank a few corners of noisy images.
MIN_VOLUME_SHARE = 0.1


#: Components smaller than this share of the largest are not part of the head.
LEAST_PART = 0.05


#: Relative to the range of values, so that rounding in storage is not foreground.
TOLERANCE = 1e-6


#: A range above this many times that of nearly all voxels comes from a few broken ones.
MOST_RANGE = 100.0


#: Noise reaches this many times as far above its median as 95% of it does.
NOISE_REACH = 3.0


#: Single voxels in a background are noise above this share of the foreground ...
MOST_SPECKS = 0.1


#: ... and of the volume's faces.
MOST_SPECKS_AT_FACES = 0.02


#: What an image shows fills at least this share of what lies within its padding.
LEAST_WITHIN = 0.05


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
    return by_threshold(array_IJK)


def by_threshold(array_IJK: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the voxels above Otsu's threshold; all of them where the border is brighter."""
    threshold = _otsu(array_IJK)
    if np.median(_border(array_IJK)) > threshold:
        return np.ones(array_IJK.shape, dtype=bool)
    return np.asarray(array_IJK > threshold)


def above_noise(array_IJK: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Mask of the large parts that stand out from the noise at the volume's faces.

    Dark tissue is kept, as the limit is the noise's own and not one between air and tissue. None
    where the dark voxels at the faces are no background: they reach up to Otsu's threshold.
    """
    threshold, faces = _otsu(array_IJK), _border(array_IJK)
    dark = faces[faces <= threshold]
    if dark.size < MIN_BORDER_SHARE * faces.size:
        return None
    middle, high = np.percentile(dark, (50, 95))
    if high - middle > (threshold - middle) / 2:
        return None
    return _large_parts(array_IJK > min(threshold, _reach(dark)))


def _reach(noise: NDArray[Any]) -> float:
    """What hardly a voxel of the noise exceeds."""
    middle, high = (float(value) for value in np.percentile(noise, (50, 95)))
    return middle + NOISE_REACH * (high - middle)


def without_specks(array_IJK: NDArray[Any], mask_IJK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask of a uniform background without single voxels in the background, if they are many:
    then they are noise, and only what exceeds it is kept."""
    if _border(mask_IJK).mean() <= MOST_SPECKS_AT_FACES:  # nor do specks, a part of it
        return mask_IJK
    box = _around(mask_IJK)
    within_IJK = mask_IJK[box]
    core_IJK = _beside(within_IJK, np.logical_and)
    opened_IJK = _beside(core_IJK, np.logical_or) & within_IJK
    kept = np.count_nonzero(opened_IJK)
    if not kept or np.count_nonzero(within_IJK) - kept <= MOST_SPECKS * kept:
        return mask_IJK
    specks_IJK = mask_IJK.copy()
    specks_IJK[box] &= ~opened_IJK
    if _border(specks_IJK).mean() <= MOST_SPECKS_AT_FACES:
        return mask_IJK
    limit = min(_otsu(array_IJK), _reach(array_IJK[specks_IJK]))
    return _large_parts(array_IJK > limit)


def _around(mask_IJK: NDArray[np.bool_]) -> Box:
    """The box that holds the mask, and one voxel more on each side where the volume has it."""
    box = bounding_box(mask_IJK)
    assert box is not None  # it reaches the faces
    return tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)


def _beside(mask_IJK: NDArray[np.bool_], combine: Any) -> NDArray[np.bool_]:
    """Each voxel combined with those that share a face with it."""
    found_IJK = mask_IJK.copy()
    for axis in range(3):
        to, of = np.moveaxis(found_IJK, axis, 0), np.moveaxis(mask_IJK, axis, 0)
        combine(to[1:], of[:-1], out=to[1:])
        combine(to[:-1], of[1:], out=to[:-1])
    return found_IJK


def _large_parts(mask_IJK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The components of at least :data:`LEAST_PART` of the largest one."""
    parts_IJK, _ = label(mask_IJK)
    sizes = np.bincount(parts_IJK.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(1, LEAST_PART * sizes.max()))[parts_IJK])


def head_box(image_CIJK: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask (IJK) of the smallest box that holds the head in every channel.

    Letters in the corners, scales and small components are left out. If no head is found, the mask
    is the whole image.
    """
    box_IJK = np.zeros(image_CIJK.shape[1:], dtype=bool)
    mask_IJK = np.logical_or.reduce([foreground(channel_IJK) for channel_IJK in image_CIJK])
    box_IJK[bounding_box(_large_parts(mask_IJK)) or ...] = True
    return box_IJK


def within_uniform(array_IJK: NDArray[Any]) -> NDArray[np.bool_] | None:
    """:func:`off_background`, where planes at the faces may be padding of another value.

    Planes at the faces that hold one value each are background, too, where what lies within them
    has a background of another value. That is not so where the background within is the brightest
    value there: it is saturated.
    """
    mask_IJK = off_background(array_IJK)
    box, values = _within_planes(array_IJK)
    if not values:
        return mask_IJK
    within_IJK = array_IJK[box]
    outer = set() if mask_IJK is None else {array_IJK.flat[int(mask_IJK.argmin())]}
    if values <= outer & {within_IJK[ends] for ends in product((0, -1), repeat=3)}:
        return mask_IJK  # the planes are no padding, but a part of the background
    inner_IJK = off_background(within_IJK)
    if inner_IJK is None or inner_IJK.mean() < LEAST_WITHIN:
        return mask_IJK
    background = within_IJK[~inner_IJK].max()
    if values <= {background} or background == within_IJK.max():
        return mask_IJK
    mask_IJK = np.zeros(array_IJK.shape, dtype=bool)
    mask_IJK[box] = inner_IJK
    return mask_IJK


def _within_planes(array_IJK: NDArray[Any]) -> tuple[tuple[slice, ...], set[Any]]:
    """The box within the planes at the faces that hold one value each, and these values."""
    box: list[slice] = [slice(0, n) for n in array_IJK.shape]
    values: set[Any] = set()
    peeled = True
    while peeled:  # without the planes of one axis, those of others may hold one value
        peeled = False
        for axis, end in product(range(array_IJK.ndim), (1, -1)):
            planes = np.moveaxis(array_IJK[tuple(box)], axis, 0)[::end]
            count = 0
            while count < len(planes) - 1 and planes[count].min() == planes[count].max():
                values.add(planes[count].flat[0])
                count += 1
            start, stop = box[axis].start, box[axis].stop
            box[axis] = slice(start + count, stop) if end > 0 else slice(start, stop - count)
            peeled = peeled or count > 0
    return tuple(box), values


def off_background(array_IJK: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Mask of all voxels that differ from a uniform background; None without such a background.

    The mask of a constant image is empty.
    """
    low, high = float(array_IJK.min()), float(array_IJK.max())
    if low == high:
        return np.zeros(array_IJK.shape, dtype=bool)
    tolerance = TOLERANCE * _range(array_IJK, low, high)
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


def _range(array_IJK: NDArray[Any], low: float, high: float) -> float:
    """The range of values, without that of a few broken voxels."""
    inner = np.percentile(_sampled(array_IJK), (0.1, 99.9))
    usual = MOST_RANGE * float(inner[1] - inner[0])
    return min(high - low, usual) if usual else high - low


def _sampled(array_IJK: NDArray[Any]) -> NDArray[Any]:
    return array_IJK.ravel(order="K")[:: max(1, array_IJK.size // 1_000_000)]


def enclosed(mask_IJK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with its holes filled: all voxels that are not connected to the volume's faces."""
    box = bounding_box(mask_IJK)
    if box is None or mask_IJK[box].all():
        return mask_IJK.copy()
    # Whatever lies outside the mask's box is connected to the faces, and so are the box's own.
    around_IJK, count = label(~mask_IJK[box])
    hole = np.ones(count + 1, dtype=bool)
    hole[_border(around_IJK)] = False
    hole[0] = True  # the mask itself
    filled_IJK = mask_IJK.copy()
    filled_IJK[box] = hole[around_IJK]
    return filled_IJK


def _border(array_IJK: NDArray[Any]) -> NDArray[Any]:
    faces = [np.moveaxis(array_IJK, axis, 0)[end] for axis in range(3) for end in (0, -1)]
    return np.concatenate([face.ravel() for face in faces])


def _otsu(array_IJK: NDArray[Any]) -> float:
    # Without clipping, the brightest voxels (vessels, fat) would put air and tissue in one bin.
    sample = _sampled(array_IJK)
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
