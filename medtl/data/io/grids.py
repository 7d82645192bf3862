"""Voxel grids: bounding boxes, and images on coarser and finer grids over the same space.

Axes: C modality or region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[slice, ...]


def bounding_box(mask: Any) -> Box | None:
    """The smallest box that holds all voxels that are not 0; None if there are none.

    Args:
        mask: a NumPy array or a tensor on any device, of any number of axes.
    """
    line = mask
    for _ in range(mask.ndim - 1):
        line = line.any(0)
    hits = [index for index, hit in enumerate(line.tolist()) if hit]
    if not hits:
        return None
    before = bounding_box(mask.any(mask.ndim - 1)) if mask.ndim > 1 else ()
    return (*(before or ()), slice(hits[0], hits[-1] + 1))


def resample(image_CIJK: Tensor, shape: tuple[int, ...], slices: int | None = None) -> Tensor:
    """CIJK onto another grid by torch.

    Where the grid gets coarser, a new voxel is the average of those that it covers; where it gets
    finer, the interpolation is trilinear.

    Args:
        slices: the axis along which thick slices lie, if any: each new slice is the nearest old
            one, after the resampling within the slices.
    """
    import torch
    from torch.nn import functional

    old = image_CIJK.shape[1:]
    if tuple(old) == shape:
        return image_CIJK.clone()
    if slices is not None and old[slices] != shape[slices]:
        within = tuple(old[n] if n == slices else edge for n, edge in enumerate(shape))
        nearest = torch.tensor(nearest_slices(old[slices], shape[slices]))
        return resample(image_CIJK, within).index_select(1 + slices, nearest)
    coarser = tuple(min(a, b) for a, b in zip(old, shape, strict=True))
    averaged = functional.interpolate(image_CIJK[None], size=coarser, mode="area")
    if coarser == shape:
        return averaged[0]
    return functional.interpolate(averaged, size=shape, mode="trilinear", align_corners=False)[0]


def nearest_slices(old: int, new: int) -> list[int]:
    """The old slice that is nearest to the centre of each new one."""
    return [min(old - 1, (2 * n + 1) * old // (2 * new)) for n in range(new)]


def resample_array(image_IJK: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """IJK onto another grid by NumPy.

    Where the grid gets coarser, a new voxel is the mean of those that it covers, weighted by the
    share that it covers; where it gets finer, the interpolation is linear between the centres.
    """
    moved: NDArray[np.float32] = np.asarray(image_IJK, dtype=np.float32)
    for axis, new in enumerate(shape):
        old = moved.shape[axis]
        if old != new:
            weights = _coverage(old, new) if new < old else _linear(old, new)
            moved = np.moveaxis(np.tensordot(weights, moved, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(moved)


def _coverage(old: int, new: int) -> NDArray[np.float32]:
    """The share of each new voxel (rows) that each old one covers."""
    edges = np.arange(new + 1) * (old / new)
    starts = np.arange(old)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.asarray(np.clip(overlap, 0, None) * (new / old), dtype=np.float32)


def _linear(old: int, new: int) -> NDArray[np.float32]:
    """The weight of each old voxel at the centre of each new one (rows)."""
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    near = 1 - np.abs(places[:, None] - np.arange(old))
    return np.asarray(np.clip(near, 0, None), dtype=np.float32)


def block_mean(image_IJK: NDArray[Any], factors: Sequence[int]) -> NDArray[np.float32]:
    """The mean of blocks of ``factors`` voxels; an incomplete block at the end is dropped."""
    blocked = np.asarray(image_IJK, dtype=np.float32)
    for axis, factor in enumerate(factors):
        if factor > 1:
            before, (n, *behind) = blocked.shape[:axis], blocked.shape[axis:]
            kept = blocked[(*[slice(None)] * axis, slice(0, n // factor * factor))]
            split = kept.reshape(*before, n // factor, factor, *behind)
            blocked = np.asarray(split.mean(axis=axis + 1), dtype=np.float32)
    return blocked
