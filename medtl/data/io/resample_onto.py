"""An image onto the grid of another one, wherever the two lie.

Axes: I J K voxels, as stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def resample_onto(
    image_IJK: NDArray[np.float32], affine: FloatArray, shape: Sequence[int], onto: FloatArray
) -> NDArray[np.float32]:
    """The image at the voxels of a grid of ``shape`` and the affine ``onto`` (both to mm).

    Linear between the image's voxels; beyond them its least value. Where the grid is coarser, the
    image is blurred first along its own axes, so that no detail is skipped.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    way = np.linalg.inv(affine) @ onto  # from voxels of the grid to voxels of the image
    steps = np.linalg.norm(way[:3, :3], axis=1)  # of one voxel of the grid, along each image axis
    sigma = np.maximum(0, (steps - 1) / 2)
    source = gaussian_filter(image_IJK, sigma, mode="nearest") if sigma.any() else image_IJK
    moved: NDArray[np.float32] = affine_transform(
        source,
        way[:3, :3],
        way[:3, 3],
        tuple(shape),
        order=1,
        mode="constant",
        cval=float(image_IJK.min()),
        output=np.float32,
    )
    return moved
