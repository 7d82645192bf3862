"""NIfTI files -> array + affine (mm), and back. Errors of a file are a one-line DataError.

Axes: I J K voxels, as stored; :func:`medtl.data.io.geometry.to_canonical` makes them RAS.
"""

# nibabel is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import gzip
import logging
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medtl.data.case import ImageFile
from medtl.data.io.geometry import Header
from medtl.data.io.limits import MOST_DEFLATED
from medtl.data.voxel_size import SPACING_RANGE_MM
from medtl.errors import DataError, ImpossibleSpacingError, RunError, TruncatedFileError
from medtl.runtime.cache import remembered
from medtl.runtime.files import open_regular, replacing

#: A voxel with less than this share of the volume of a box of the same edges is flat.
LEAST_VOLUME = 1e-6


#: Intensities whose square a float32 holds.
LARGEST = 1e18


#: Labels stored as floats may differ from a whole number by this much.
LABEL_TOLERANCE = 1e-3


def read_header(file: ImageFile) -> Header:
    """Read and check a file's header; its voxels are not decoded.

    Raises:
        DataError: no NIfTI file, not 3-D (or 4-D with ``file.channel``), an affine that cannot be
            inverted, an impossible spacing, or fewer voxels than the header declares.
    """
    with opened(file.path) as (image, stream):
        shape = volume_shape(image, file)
        affine = checked_affine(image, file.path)
        dtype = checked_dtype(image, file.path)
        check_length(file.path, stream, declared_bytes(image, dtype))
        placed = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    x, y, z = (float(edge) for edge in voxel_sizes(affine))
    return Header(file.path, shape, affine, (x, y, z), dtype, placed)


def read_volume(
    file: ImageFile, *, allow_constant: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read one volume as stored: float32 array_IJK and its affine (mm).

    Raises:
        DataError: as :func:`read_header`, and for truncated files, voxels that are NaN, infinite
            or too large for sums, and volumes whose voxels all have one value, unless
            ``allow_constant``.
    """
    array, affine = read_stored(file)
    with np.errstate(over="ignore"):
        array_IJK = np.array(array, dtype=np.float32)
    low, high = float(array_IJK.min()), float(array_IJK.max())
    if np.isfinite(low) and np.isfinite(high) and max(-low, high) > LARGEST:
        raise DataError(
            f"{file.path}: a voxel of {max(low, high, key=abs):.2g} is no intensity; replace the "
            "values that mean 'no data', or repair the scale factor"
        )
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(array_IJK.size - np.isfinite(array_IJK).sum())
        raise DataError(
            f"{file.path}: {bad} voxels are NaN or infinite; set them to the value of "
            "the background, or leave out the case"
        )
    if low == high and not allow_constant:
        kind = "all-zero volume" if low == 0 else f"every voxel is {low:g}"
        raise DataError(f"{file.path}: {kind}; leave out the case")
    return array_IJK, affine


def read_labels(
    file: ImageFile, allowed: tuple[int, ...]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Read a segmentation, stored as whole or as floating-point numbers: int16 array_IJK, affine.

    Raises:
        DataError: as :func:`read_header`, and for values that are not whole numbers or not among
            ``allowed``.
    """
    array, affine = read_stored(file)
    labels_IJK = _whole_numbers(array, file.path)
    values = map(int, np.flatnonzero(np.bincount(labels_IJK.ravel(order="K"))))
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise DataError(
            f"{file.path}: label values {_listed(unknown)} are not among {_listed(allowed)}; "
            "name the right scheme with --labels"
        )
    return labels_IJK, affine


def label_values(file: ImageFile) -> tuple[int, ...]:
    """All values of a segmentation, sorted; kept between runs. Errors as read_labels."""
    return tuple(label_counts(file))


def label_counts(file: ImageFile) -> dict[int, int]:
    """Voxels of each value of a segmentation; kept between runs. Errors as read_labels."""

    def count() -> list[tuple[int, int]]:
        array, _ = read_stored(file)
        inside = array[array != 0]  # a few per cent of the voxels; only these are rounded
        whole = _whole_numbers(inside, file.path) if inside.size else inside.astype(np.int16)
        counts = np.bincount(whole, minlength=1)
        counts[0] += array.size - inside.size
        return [(value, int(counts[value])) for value in map(int, np.flatnonzero(counts))]

    return dict(map(tuple, remembered("label counts", file.path, file.channel, count)))


def count_volumes(path: Path) -> int:
    """The number of volumes: 1, or the length of the fourth axis. Errors as read_header."""
    with opened(path) as (image, _):
        check_possible(path, declared_bytes(image, image.get_data_dtype()))
        volumes = image.shape[3] if len(image.shape) == 4 else 1
        volume_shape(image, ImageFile(path, 0 if len(image.shape) == 4 else None))
    return int(volumes)


def write_nifti(path: Path, array_IJK: NDArray[Any], geometry: NDArray[np.float64] | Path) -> None:
    """Write a ``.nii`` or ``.nii.gz``; the same input gives the same bytes.

    Args:
        geometry: an affine (mm), or an image file on the same grid. Of a file every field that
            places the voxels is copied as it stands, so that each reader, whichever of the fields
            it goes by, lays the array on the image. Nothing else is copied: free text in a header
            may name a patient. The version is the file's, as NIfTI-1 rounds the fields of NIfTI-2.

    Raises:
        RunError: the path has another suffix, or the folder cannot be written.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise RunError(f"{path}: NIfTI files are called .nii or .nii.gz")
    model = _stored_header(geometry) if isinstance(geometry, Path) else None
    small = max(array_IJK.shape) < 2**15 and not isinstance(model, Nifti2Header)
    image = (Nifti1Image if small else Nifti2Image)(_storable(array_IJK), None)
    if model is not None:
        _copy_geometry(model, image.header)
    else:
        image.set_qform(geometry, 1)
        image.set_sform(geometry, 1)
        image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


#: The fields of a header by which readers place the voxels, but for edges and units.
_PLACES = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def _stored_header(path: Path) -> Any:
    """As stored: nibabel's checks repair a header in memory, where other readers do not."""
    with opened(path) as (image, stream):
        stream.seek(0)
        return type(image.header).from_fileobj(stream, check=False)


def _copy_geometry(model: Any, header: Any) -> None:
    for name in _PLACES:
        header[name] = model[name]
    header["pixdim"][:4] = model["pixdim"][:4]  # the first is the sign of the qform's third axis
    header["xyzt_units"] = int(model["xyzt_units"]) & _SPACE_UNIT


def _storable(array_IJK: NDArray[Any]) -> NDArray[Any]:
    smaller = {"b": np.uint8, "i8": np.int32, "u8": np.uint32, "f8": np.float32, "f2": np.float32}
    kind = "b" if array_IJK.dtype.kind == "b" else array_IJK.dtype.str[1:]
    return array_IJK.astype(smaller[kind]) if kind in smaller else array_IJK


def read_stored(file: ImageFile) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Read one volume in its own type, scaled as the header says: array_IJK, affine (mm).

    Raises:
        DataError: as :func:`read_header`, and for truncated files.
    """
    with opened(file.path) as (image, stream):
        shape, affine = volume_shape(image, file), checked_affine(image, file.path)
        check_possible(file.path, declared_bytes(image, checked_dtype(image, file.path)))
        proxy: Any = image.dataobj
        part = (..., file.channel) if file.channel is not None else ...
        array_IJK = np.asanyarray(proxy[part]).reshape(shape, order="F")
        if isinstance(stream, gzip.GzipFile):
            while stream.read(1 << 20):  # at its end it verifies its checksum
                pass
    return array_IJK, affine


def _whole_numbers(array: NDArray[Any], path: Path) -> NDArray[np.int16]:
    if array.dtype.kind == "f":
        whole = np.rint(array)
        off = ~(np.abs(array - whole) <= LABEL_TOLERANCE)
        if off.any():
            raise DataError(
                f"{path}: label value {float(array[off][0]):g} is not a whole number; "
                "is it a segmentation? (--labels names its label scheme)"
            )
        array = whole
    limits = np.iinfo(np.int16)
    low, high = array.min(), array.max()
    if low < 0 or high > limits.max:
        worst = low if low < 0 else high
        raise DataError(f"{path}: label value {int(worst)} is impossible; is it a segmentation?")
    return array.astype(np.int16)


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


#: The bits of ``xyzt_units`` that name the unit of space ...
_SPACE_UNIT = 0x07


#: ... and the units other than mm: name and mm. Without a unit lengths are taken as mm.
_UNITS = {1: ("metre", 1000.0), 3: ("micron", 0.001)}


_GZIP_MAGIC = b"\x1f\x8b"


_KINDS: dict[bytes, Any] = {
    size.to_bytes(4, order): kind
    for size, kind in ((348, Nifti1Image), (540, Nifti2Image))
    for order in ("little", "big")
}


@contextmanager
def opened(path: Path) -> Iterator[tuple[Nifti1Image, IO[bytes] | gzip.GzipFile]]:
    """Yield the image, of which only the header is read, and its decompressed stream.

    Raises:
        DataError: any error here, or while the caller reads from the image.
    """
    try:
        with open_regular(path) as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            start = stream.read(4)
            if not start:
                raise DataError(f"{path}: the file is empty; fetch it again")
            kind = _KINDS.get(start)
            if kind is None:
                raise DataError(
                    f"{path}: its content is not NIfTI; fetch it again, or convert it to .nii.gz"
                )
            stream.seek(0)
            yield _parsed(kind, stream), stream
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (EOFError, zlib.error) as error:
        raise TruncatedFileError(f"{path}: truncated or damaged; fetch the file again") from error
    except (OSError, MemoryError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); fetch it again") from error
    except (ImageFileError, HeaderDataError, ImageDataError, WrapStructError) as error:
        raise DataError(f"{path}: broken header ({_reason(error)}); fetch it again") from error


#: Whether this thread reads a header.
_reading: ContextVar[bool] = ContextVar("_reading", default=False)


def _not_of_ours(_record: logging.LogRecord) -> bool:
    return not _reading.get()


# nibabel logs what it finds odd in a header, and what it repairs. medtl checks what it uses of a
# header itself, and says it in one line. Other users of nibabel in the process keep its lines.
logging.getLogger("nibabel.global").addFilter(_not_of_ours)


def _parsed(kind: Any, stream: IO[bytes]) -> Nifti1Image:
    """The image at the start of a stream, without what nibabel logs about its header."""
    before = _reading.set(True)
    try:
        image: Nifti1Image = kind.from_stream(stream)
    finally:
        _reading.reset(before)
    return image


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or "too large"
    return str(text).splitlines()[0]


def volume_shape(image: Nifti1Image, file: ImageFile) -> tuple[int, int, int]:
    """The shape of the volume that ``file`` names. Raises DataError if there is none."""
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


def space_unit(image: Nifti1Image) -> int:
    """The number of the unit of lengths, as NIfTI counts them: 0 none, 1 m, 2 mm, 3 micron."""
    return int(image.header["xyzt_units"]) & _SPACE_UNIT


def checked_affine(image: Nifti1Image, path: Path) -> NDArray[np.float64]:
    """The affine in mm, whatever unit the header names.

    Raises DataError if it is not finite, invertible and of possible spacing.
    """
    affine = np.array(image.affine, dtype=np.float64)
    unit = _UNITS.get(space_unit(image))
    if unit:
        affine[:3] *= unit[1]
    spacing_mm = voxel_sizes(affine)
    # Of edges of one length, so that the size of the voxels does not matter.
    directions = affine[:3, :3] / np.where(spacing_mm > 0, spacing_mm, 1)
    if not np.isfinite(affine).all() or abs(np.linalg.det(directions)) < LEAST_VOLUME:
        raise DataError(f"{path}: its affine cannot be inverted; repair the header")
    low, high = SPACING_RANGE_MM
    low *= min(1.0, unit[1]) if unit else 1.0
    if spacing_mm.min() < low or spacing_mm.max() > high:
        edges = " x ".join(f"{edge:g}" for edge in spacing_mm)
        named = f"gives lengths in {unit[0]}" if unit else "names no other unit (xyzt_units)"
        raise ImpossibleSpacingError(
            f"{path}: voxels of {edges} mm are not possible; its header {named}; repair it",
            unit[0] if unit else "",
        )
    return affine


def checked_dtype(image: Nifti1Image, path: Path) -> np.dtype[Any]:
    """The type of the stored voxels. Raises DataError if they are not plain numbers."""
    dtype: np.dtype[Any] = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: its voxels are {dtype}, not plain numbers; convert it")
    return dtype


def declared_bytes(image: Nifti1Image, dtype: np.dtype[Any]) -> int:
    """The length of the decompressed file, as the header has it."""
    proxy: Any = image.dataobj
    return int(proxy.offset) + math.prod(map(int, image.shape)) * dtype.itemsize


def check_possible(path: Path, declared: int) -> None:
    """Refuse a header that declares more than its file can hold, before memory is asked for."""
    length = path.stat().st_size
    if declared > length * MOST_DEFLATED:
        raise TruncatedFileError(
            f"{path}: truncated (its header declares {declared} bytes, the file has {length}); "
            "fetch it again"
        )


def check_length(path: Path, stream: IO[bytes] | gzip.GzipFile, expected: int) -> None:
    """Refuse truncated files, without decoding those that are complete.

    Test cases are read only at the end of a run, which is too late to find a broken one.
    """
    length = path.stat().st_size
    if isinstance(stream, gzip.GzipFile):
        # A gzip file ends with its length. Files of several members fail this test like truncated
        # ones; only these are read to the end.
        with open_regular(path) as raw:
            raw.seek(-4, os.SEEK_END)
            if int.from_bytes(raw.read(4), "little") == expected % 2**32:
                return
        length = stream.tell()
        while chunk := stream.read(1 << 20):
            length += len(chunk)
    if length < expected:
        raise TruncatedFileError(
            f"{path}: truncated ({length} of {expected} bytes); fetch it again"
        )
