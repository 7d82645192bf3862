"""Opening NIfTI files that somebody else wrote: every way they can be broken is one line.

Sniffs contents, not suffixes: a ``.nii.gz`` that is not compressed is read all the same.
"""

# nibabel is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medtl.case import ImageFile
from medtl.errors import DataError

#: Voxel edges outside this range (mm) come from a broken header or another unit.
SPACING_RANGE_MM = (0.01, 100.0)
_GZIP_MAGIC = b"\x1f\x8b"
_KINDS: dict[bytes, Any] = {
    size.to_bytes(4, order): kind
    for size, kind in ((348, Nifti1Image), (540, Nifti2Image))
    for order in ("little", "big")
}


@contextmanager
def opened(path: Path) -> Iterator[tuple[Nifti1Image, IO[bytes]]]:
    """The image, nothing read but its header, and the decompressed stream it is read from.

    Raises:
        DataError: whatever goes wrong here or while the caller reads from the image.
    """
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            start = stream.read(4)
            if not start:
                raise DataError(f"{path}: the file is empty; fetch it again")
            kind = _KINDS.get(start)
            if kind is None:
                raise DataError(f"{path}: not a NIfTI file; convert it to .nii.gz first")
            stream.seek(0)
            yield kind.from_stream(stream), stream
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged; fetch the file again") from error
    except (OSError, MemoryError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); fetch it again") from error
    except (ImageFileError, HeaderDataError, ImageDataError, WrapStructError) as error:
        raise DataError(f"{path}: broken header ({_reason(error)}); fetch it again") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or "too large"
    return str(text).splitlines()[0]


def volume_shape(image: Nifti1Image, file: ImageFile) -> tuple[int, int, int]:
    """Shape of the one volume that ``file`` names; DataError where it names none."""
    axes = list(image.shape)
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    listed = "x".join(map(str, image.shape))
    if min(axes, default=0) < 1 or len(axes) not in (3, 4):
        raise DataError(
            f"{file.path}: shape {listed} is not a volume; convert it or leave out the case"
        )
    volumes = axes[3] if len(axes) == 4 else 1
    if file.channel is None and volumes > 1:
        raise DataError(
            f"{file.path}: shape {listed} holds {volumes} volumes, one is expected; split it"
        )
    if file.channel is not None and (len(image.shape) != 4 or file.channel >= volumes):
        raise DataError(f"{file.path}: shape {listed} has no volume number {file.channel}")
    return axes[0], axes[1], axes[2]


def checked_affine(image: Nifti1Image, path: Path) -> NDArray[np.float64]:
    """The affine (mm), finite, invertible and of a possible spacing, else DataError."""
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: its affine cannot be inverted; repair the header")
    spacing_mm = voxel_sizes(affine)
    low, high = SPACING_RANGE_MM
    if spacing_mm.min() < low or spacing_mm.max() > high:
        edges = " x ".join(f"{edge:g}" for edge in spacing_mm)
        raise DataError(f"{path}: voxels of {edges} mm are not possible; repair the header")
    return affine


def checked_dtype(image: Nifti1Image, path: Path) -> np.dtype[Any]:
    """How the voxels are stored: whole or floating-point numbers, else DataError."""
    dtype: np.dtype[Any] = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: its voxels are {dtype}, not plain numbers; convert it")
    return dtype


def check_length(path: Path, stream: IO[bytes] | gzip.GzipFile, expected: int) -> None:
    """Find files that end too early, without decoding those that look whole.

    Test cases are read only at the end of a run: a broken one should not wait that long.
    """
    size = path.stat().st_size
    if not isinstance(stream, gzip.GzipFile):
        found = size
    else:
        # A gzip file ends with its length. Files of several members fail that test as well as
        # truncated ones; only they are read to the end.
        with open(path, "rb") as raw:
            raw.seek(-4, os.SEEK_END)
            if int.from_bytes(raw.read(4), "little") == expected % 2**32:
                return
        found = stream.tell()
        while chunk := stream.read(1 << 20):
            found += len(chunk)
    if found < expected:
        raise DataError(f"{path}: truncated ({found} of {expected} bytes); fetch it again")
