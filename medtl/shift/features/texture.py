"""Noise and sharpness, relative to the spread of the intensities.

Axes: I J K voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import block_mean
from medtl.shift.features.region import Foreground

#: Finer voxels (mm; pictures: 256ths of the longest edge) are averaged to about this first, so that
#: an image stored on a finer grid is not taken for a smoother one.
WORKING_STEP = 1.0


#: Less than a thousandth of the spread counts as nothing: a constant image has logs, too.
FLOOR = 1e-3


#: A normal deviation is so many times its median absolute deviation.
MAD = 1.4826


#: Edge of the blocks that local contrast is measured in, in the same units.
BLOCK = 4.0


Image = NDArray[np.float32]


Mask = NDArray[np.bool_]


def noise_columns(shown: Foreground) -> dict[str, float]:
    """Logs of noise, gradients and local contrast in the plane of the two finest axes.

    ``level``: deviation of the noise; ``gradient`` and ``edges``: median and 95th percentile of
    the gradient per mm (pictures: per 256th of the edge); ``local``: median deviation in squares of
    4 mm (2 voxels at least). All in units of the spread.
    """
    names = ("level", "gradient", "edges", "local")
    image_IJK, inside_IJK, step = _at_working_step(shown)
    plane = finest_plane(image_IJK.shape, step)
    values = np.zeros(len(names))
    if plane is not None and shown.spread > 0:
        level = noise_deviation(image_IJK, inside_IJK, plane)
        gradients = _gradients(image_IJK, inside_IJK, step, plane)
        local = _local_deviation(image_IJK, inside_IJK, step, plane)
        values = np.array([level, *gradients, local])
    logs = np.log(values + FLOOR)
    return {f"noise/{name}": float(log) for name, log in zip(names, logs, strict=True)}


def finest_plane(shape: tuple[int, ...], step: tuple[float, ...]) -> tuple[int, int] | None:
    """The two axes with the smallest voxels, of those with at least three; None: there are none."""
    usable = [axis for axis in range(3) if shape[axis] >= 3]
    if len(usable) < 2:
        return None
    first, second = sorted(sorted(usable, key=lambda axis: round(step[axis], 3))[:2])
    return first, second


def noise_deviation(image_IJK: Image, inside_IJK: Mask, plane: tuple[int, int]) -> float:
    """Standard deviation of white noise: from the median absolute second difference along both axes
    of the plane, to which most structure does not answer (Immerkaer 1996, there by the mean)."""
    response_IJK, valid_IJK = image_IJK, inside_IJK
    for axis in plane:
        left, middle, right = three(response_IJK, axis)
        response_IJK = left + right - 2 * middle
        valid_IJK = eroded(valid_IJK, axis)
    return MAD * _percentile(np.abs(response_IJK[valid_IJK]), 50) / 6


def three(array_IJK: NDArray[Any], axis: int) -> tuple[NDArray[Any], ...]:
    """Every voxel's neighbour before it, itself, and the one after it; two shorter."""
    n = array_IJK.shape[axis]
    ahead = (slice(None),) * axis
    return tuple(array_IJK[(*ahead, slice(first, n - 2 + first))] for first in range(3))


def eroded(mask_IJK: Mask, axis: int) -> Mask:
    """Where a voxel and both its neighbours along the axis are in the mask; two shorter."""
    left, middle, right = three(mask_IJK, axis)
    return np.asarray(left & middle & right)


def _at_working_step(shown: Foreground) -> tuple[Image, Mask, tuple[float, ...]]:
    factors = [
        min(n, max(1, round(WORKING_STEP / edge)))
        for n, edge in zip(shown.shape, shown.step, strict=True)
    ]
    if max(factors) == 1:
        return shown.scaled_IJK, shown.foreground_IJK, shown.step
    step = tuple(edge * factor for edge, factor in zip(shown.step, factors, strict=True))
    inside_IJK = block_mean(shown.foreground_IJK, factors) > 1 - 1e-6
    return block_mean(shown.scaled_IJK, factors), inside_IJK, step


def _gradients(
    image_IJK: Image, inside_IJK: Mask, step: tuple[float, ...], plane: tuple[int, int]
) -> tuple[float, float]:
    """Median and 95th percentile of its length in the plane, from central differences."""
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
    """The median over blocks that lie inside as a whole."""
    edges = [1, 1, 1]
    for axis in plane:
        edges[axis] = min(image_IJK.shape[axis], max(2, round(BLOCK / step[axis])))
    mean_IJK = block_mean(image_IJK, edges)
    variance_IJK = block_mean(image_IJK * image_IJK, edges) - mean_IJK * mean_IJK
    whole_IJK = block_mean(inside_IJK, edges) > 1 - 1e-6
    return _percentile(np.sqrt(np.maximum(variance_IJK[whole_IJK], 0)), 50)


def _percentile(values: NDArray[np.float32], percentile: float) -> float:
    """0 where there are none."""
    return float(np.percentile(values, percentile)) if len(values) else 0.0
