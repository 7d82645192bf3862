"""An image onto the grid of another one, wherever the two lie.

Axes: I J K voxels, as stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Share of a voxel by which rounding may move a place.
SLACK = 1e-3


def resample_onto(
    image_IJK: NDArray[np.float32], affine: FloatArray, shape: Sequence[int], onto: FloatArray
) -> NDArray[np.float32]:
    """The image at the voxels of a grid of ``shape`` and the affine ``onto`` (both to mm).

    Linear between the centres of the image's voxels, in the outer half of a voxel its value; beyond
    the image its least value. Where the grid is coarser, the image is blurred first along its own
    axes, so that no detail is skipped.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    way = np.linalg.inv(affine) @ onto  # from voxels of the grid to voxels of the image
    steps = np.linalg.norm(way[:3, :3], axis=1)  # of one voxel of the grid, along each image axis
    sigma = np.maximum(0, (steps - 1) / 2)
    source = gaussian_filter(image_IJK, sigma, mode="nearest") if sigma.any() else image_IJK
    moved_IJK: NDArray[np.float32] = affine_transform(
        source, way[:3, :3], way[:3, 3], tuple(shape), order=1, mode="nearest", output=np.float32
    )
    moved_IJK[~_inside(way, image_IJK.shape, shape)] = image_IJK.min()
    return moved_IJK


def nearest_onto(
    labels_IJK: NDArray[np.uint16], affine: FloatArray, shape: Sequence[int], onto: FloatArray
) -> NDArray[np.uint16]:
    """Label values at the voxels of a grid, each of the nearest voxel; 0 beyond the label map.

    Args:
        onto: affine of the grid, to mm as ``affine``.
    """
    from scipy.ndimage import affine_transform

    way = np.linalg.inv(affine) @ onto
    moved_IJK: NDArray[np.uint16] = affine_transform(
        labels_IJK, way[:3, :3], way[:3, 3], tuple(shape), order=0, mode="grid-constant",
        output=np.uint16,
    )  # fmt: skip
    return moved_IJK


def _inside(way: FloatArray, held: Sequence[int], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Where the voxels of a grid (IJK) lie within those of an image of the shape ``held``."""
    inside_IJK = np.ones(tuple(shape), bool)
    i, j, k = np.ogrid[tuple(slice(edge) for edge in shape)]
    for row, edge in zip(way[:3], held, strict=True):
        place_IJK = (row[0] * i + row[1] * j) + (row[2] * k + row[3])
        inside_IJK &= (place_IJK >= -0.5 - SLACK) & (place_IJK <= edge - 0.5 + SLACK)
    return inside_IJK
