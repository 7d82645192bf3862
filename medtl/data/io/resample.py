"""Images on coarser and finer grids over the same space, and the boxes that masks fill.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

Box = tuple[slice, ...]


def box_of(mask_IJK: NDArray[np.bool_]) -> Box:
    """The smallest box that holds the mask; an empty one gives all of it."""
    found = find_objects(mask_IJK.view(np.uint8))
    return tuple(found[0]) if found else tuple(slice(0, n) for n in mask_IJK.shape)


def resample_array(image_IJK: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """Where the grid gets coarser a new voxel is the mean of what it covers, parts of voxels by
    their share; where it gets finer, it is linear between the voxels' centres."""
    moved: NDArray[np.float32] = np.asarray(image_IJK, dtype=np.float32)
    for axis, new in enumerate(shape):
        old = moved.shape[axis]
        if old != new:
            weights = _shares(old, new) if new < old else _linear(old, new)
            moved = np.moveaxis(np.tensordot(weights, moved, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(moved)


def _shares(old: int, new: int) -> NDArray[np.float32]:
    """How much of each new voxel (rows) each old one fills."""
    edges = np.arange(new + 1) * (old / new)
    starts = np.arange(old)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.asarray(np.clip(overlap, 0, None) * (new / old), dtype=np.float32)


def _linear(old: int, new: int) -> NDArray[np.float32]:
    """How much each old voxel counts at the centre of each new one (rows)."""
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    near = 1 - np.abs(places[:, None] - np.arange(old))
    return np.asarray(np.clip(near, 0, None), dtype=np.float32)


def block_mean(image_IJK: NDArray[Any], factors: Sequence[int]) -> NDArray[np.float32]:
    """The mean of blocks of ``factors`` voxels; what does not fill a block at the end is left."""
    blocked = np.asarray(image_IJK, dtype=np.float32)
    for axis, factor in enumerate(factors):
        if factor > 1:
            ahead, (n, *behind) = blocked.shape[:axis], blocked.shape[axis:]
            kept = blocked[(*[slice(None)] * axis, slice(0, n // factor * factor))]
            split = kept.reshape(*ahead, n // factor, factor, *behind)
            blocked = np.asarray(split.mean(axis=axis + 1), dtype=np.float32)
    return blocked
