"""Orientation, cropping and resampling of voxel grids.

Axes: C modality or region, I J K voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def to_ras(
    affine: NDArray[np.float64],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which stored axis is I, J, K of right-anterior-superior, and which of them run backwards."""
    from nibabel.orientations import io_orientation

    codes = io_orientation(affine)  # type: ignore[no-untyped-call]
    order = np.argsort(codes[:, 0])
    axes = tuple(int(axis) for axis in order)
    flips = tuple(bool(codes[axis, 1] < 0) for axis in order)
    return axes, flips  # type: ignore[return-value]


def orient(
    array_IJK: NDArray[Any], axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> NDArray[Any]:
    """A view of the array with its axes as :func:`to_ras` has them."""
    return array_IJK.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]


def box(brain_IJK: NDArray[np.bool_]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First voxel and size of the smallest box around a mask."""
    start, size = [], []
    for axis in range(3):
        inside = np.flatnonzero(brain_IJK.any(axis=tuple(a for a in range(3) if a != axis)))
        start.append(int(inside[0]))
        size.append(int(inside[-1] - inside[0] + 1))
    return (start[0], start[1], start[2]), (size[0], size[1], size[2])


def resample(image_CIJK: Tensor, shape: tuple[int, ...]) -> Tensor:
    """CIJK onto another grid: the average over the new voxel where it gets coarser, trilinear where
    it gets finer."""
    old = image_CIJK.shape[1:]
    if tuple(old) == shape:
        return image_CIJK.clone()
    coarser = tuple(min(a, b) for a, b in zip(old, shape, strict=True))
    averaged = functional.interpolate(image_CIJK[None], size=coarser, mode="area")
    if coarser == shape:
        return averaged[0]
    return functional.interpolate(averaged, size=shape, mode="trilinear", align_corners=False)[0]
