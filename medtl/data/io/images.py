"""Read and write images, NIfTI volumes or pictures (volumes of one slice), by their content.

Axes: I J K voxels, as stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.case import ImageFile
from medtl.data.io import nifti
from medtl.data.io.geometry import Header
from medtl.data.io.pictures import (
    is_picture,
    read_picture,
    read_picture_header,
    read_picture_labels,
    write_picture_labels,
)
from medtl.runtime.files import file_name


def read_header(file: ImageFile) -> Header:
    """See :func:`medtl.data.io.nifti.read_header`,
    :func:`medtl.data.io.pictures.read_picture_header`."""
    if is_picture(file.path):
        return read_picture_header(file)
    return nifti.read_header(file)


def read_volume(
    file: ImageFile, *, allow_constant: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """See :func:`medtl.data.io.nifti.read_volume` and
    :func:`medtl.data.io.pictures.read_picture`."""
    if is_picture(file.path):
        return read_picture(file, allow_constant=allow_constant)
    return nifti.read_volume(file, allow_constant=allow_constant)


def read_labels(
    file: ImageFile, allowed: tuple[int, ...]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """See :func:`medtl.data.io.nifti.read_labels` and
    :func:`medtl.data.io.pictures.read_picture_labels`."""
    if is_picture(file.path):
        return read_picture_labels(file, allowed)
    return nifti.read_labels(file, allowed)


def label_path(folder: Path, case_id: str, image: Path) -> Path:
    """The path of a label map on an image's grid: NIfTI for a volume, PNG for a picture."""
    return folder / f"{file_name(case_id)}.{'png' if is_picture(image) else 'nii.gz'}"


def write_map(path: Path, values_IJK: NDArray[np.float32], like: Header) -> None:
    """Write values from 0 to 1 to a path of :func:`label_path`; of a picture, 255 stands for 1.

    Raises RunError if it cannot be written.
    """
    if is_picture(like.path):
        write_picture_labels(path, np.rint(values_IJK * 255).astype(np.uint8))
    else:
        nifti.write_nifti(path, values_IJK, like.path)


def write_labels(path: Path, label_IJK: NDArray[Any], like: Header) -> None:
    """Write to a path of :func:`label_path`. Raises RunError if it cannot be written."""
    if is_picture(like.path):
        write_picture_labels(path, label_IJK)
    else:
        nifti.write_nifti(path, label_IJK, like.path)
