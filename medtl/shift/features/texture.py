"""Noise and sharpness, relative to the spread of the intensities.

Axes: I J K voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import block_mean
from medtl.shift.features.region import Foreground

#: Finer voxels (mm; pictures: 256ths of the longest edge) are first averaged to about this, so that
#: a finer grid does not look like a smoother image.
WORKING_STEP = 1.0

#: Added before the log, in spreads: the log of a constant image is finite.
FLOOR = 1e-3

#: Ratio of the standard deviation to the median absolute deviation of a normal distribution.
MAD = 1.4826

#: Edge of the blocks for local contrast, in the same units.
BLOCK = 4.0

Image = NDArray[np.float32]

Mask = NDArray[np.bool_]


def noise_columns(part: Foreground) -> dict[str, float]:
    """Logs of noise, gradients and local contrast in the plane of the two finest axes.

    ``level``: standard deviation of the noise; ``gradient`` and ``edges``: median and 95th
    percentile of the gradient per mm (pictures: per 256th of the edge); ``local``: median standard
    deviation in squares of 4 mm (at least 2 voxels). All in units of the spread.
    """
    names = ("level", "gradient", "edges", "local")
    image_IJK, inside_IJK, step = _at_working_step(part)
    plane = finest_plane(image_IJK.shape, step)
    values = np.zeros(len(names))
    if plane is not None and part.spread > 0:
        values[0] = noise_deviation(image_IJK, inside_IJK, plane)
        values[1:3] = _gradients(image_IJK, inside_IJK, step, plane)
        values[3] = _local_deviation(image_IJK, inside_IJK, step, plane)
    logs = np.log(values + FLOOR)
    return {f"noise/{name}": float(log) for name, log in zip(names, logs, strict=True)}


def finest_plane(shape: tuple[int, ...], step: tuple[float, ...]) -> tuple[int, int] | None:
    """The two axes of the smallest voxels, among axes of 3 or more; None if there are not two."""
    usable = [axis for axis in range(3) if shape[axis] >= 3]
    if len(usable) < 2:
        return None
    first, second = sorted(sorted(usable, key=lambda axis: round(step[axis], 3))[:2])
    return first, second


def noise_deviation(image_IJK: Image, inside_IJK: Mask, plane: tuple[int, int]) -> float:
    """Standard deviation of white noise, from second differences along both axes of the plane.

    Most structure has small second differences (Immerkaer 1996, there the mean, here the median).
    """
    response_IJK, valid_IJK = image_IJK, inside_IJK
    for axis in plane:
        left, middle, right = three(response_IJK, axis)
        response_IJK = left + right - 2 * middle
        valid_IJK = eroded(valid_IJK, axis)
    return MAD * _percentile(np.abs(response_IJK[valid_IJK]), 50) / 6


def three(array_IJK: NDArray[Any], axis: int) -> tuple[NDArray[Any], ...]:
    """The voxel before, the voxel itself and the one after it; shorter by two along the axis."""
    n = array_IJK.shape[axis]
    ahead = (slice(None),) * axis
    return tuple(array_IJK[(*ahead, slice(first, n - 2 + first))] for first in range(3))


def eroded(mask_IJK: Mask, axis: int) -> Mask:
    """Where a voxel and both neighbours along the axis are in the mask; shorter by two."""
    left, middle, right = three(mask_IJK, axis)
    return np.asarray(left & middle & right)


def _at_working_step(part: Foreground) -> tuple[Image, Mask, tuple[float, ...]]:
    factors = [
        min(n, max(1, round(WORKING_STEP / edge)))
        for n, edge in zip(part.shape, part.step, strict=True)
    ]
    if max(factors) == 1:
        return part.scaled_IJK, part.foreground_IJK, part.step
    step = tuple(edge * factor for edge, factor in zip(part.step, factors, strict=True))
    inside_IJK = block_mean(part.foreground_IJK, factors) > 1 - 1e-6
    return block_mean(part.scaled_IJK, factors), inside_IJK, step


def _gradients(
    image_IJK: Image, inside_IJK: Mask, step: tuple[float, ...], plane: tuple[int, int]
) -> tuple[float, float]:
    """Median and 95th percentile of the gradient in the plane, from central differences."""
    inner = tuple(slice(1, -1) if axis in plane else slice(None) for axis in range(3))
    valid_IJK = inside_IJK[inner].copy()
    squares_IJK = np.zeros(valid_IJK.shape, dtype=np.float32)
    for axis, other in (plane, plane[::-1]):
        across = tuple(slice(1, -1) if a == other else slice(None) for a in range(3))
        left, _, right = three(image_IJK[across], axis)
        squares_IJK += ((right - left) / np.float32(2 * step[axis])) ** 2
        valid_IJK &= eroded(inside_IJK[across], axis)
    lengths = np.sqrt(squares_IJK[valid_IJK])
    return _percentile(lengths, 50), _percentile(lengths, 95)


def _local_deviation(
    image_IJK: Image, inside_IJK: Mask, step: tuple[float, ...], plane: tuple[int, int]
) -> float:
    """The median over blocks that lie inside the foreground."""
    edges = [1, 1, 1]
    for axis in plane:
        edges[axis] = min(image_IJK.shape[axis], max(2, round(BLOCK / step[axis])))
    mean_IJK = block_mean(image_IJK, edges)
    variance_IJK = block_mean(image_IJK * image_IJK, edges) - mean_IJK * mean_IJK
    whole_IJK = block_mean(inside_IJK, edges) > 1 - 1e-6
    return _percentile(np.sqrt(np.maximum(variance_IJK[whole_IJK], 0)), 50)


def _percentile(values: NDArray[np.float32], percentile: float) -> float:
    """The percentile; 0 without values."""
    return float(np.percentile(values, percentile)) if len(values) else 0.0
