"""Images of any kind, told by their content: NIfTI volumes, and pictures as volumes of one slice.

Axes: I J K voxels, as stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.case import ImageFile
from medtl.io import nifti
from medtl.io.geometry import Header
from medtl.io.pictures import is_picture, read_picture, read_picture_header


def read_header(file: ImageFile) -> Header:
    """See :func:`medtl.io.nifti.read_header`, :func:`medtl.io.pictures.read_picture_header`."""
    if is_picture(file.path):
        return read_picture_header(file)
    return nifti.read_header(file)


def read_volume(
    file: ImageFile, *, allow_constant: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """See :func:`medtl.io.nifti.read_volume` and :func:`medtl.io.pictures.read_picture`."""
    if is_picture(file.path):
        return read_picture(file, allow_constant=allow_constant)
    return nifti.read_volume(file, allow_constant=allow_constant)
