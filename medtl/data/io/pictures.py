"""Pictures (PNG, JPEG, TIFF, BMP) -> arrays, recognised by their content, not their suffix.

A picture is read as a volume of one slice with voxels of 1 mm, so functions for volumes apply.

Axes: I rows (down), J columns (right), K the one slice, H colours.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medtl.data.case import ImageFile
from medtl.data.io.geometry import Header
from medtl.data.io.picture_pixels import UnreadablePixels, pixels, stored_type, upright_shape
from medtl.data.modality import COLOURS as COLOURS
from medtl.errors import DataError, TruncatedFileError
from medtl.runtime.files import open_regular, replacing

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")


SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


#: A picture is grey if its colours differ from grey by less than this (of 255) on average.
GREY_TOLERANCE = 1.0


#: ITU-R BT.601: perceived brightness of red, green and blue.
LUMINANCE_H = (0.299, 0.587, 0.114)


#: A network sees some hundred along an edge; to decode more takes much time and memory.
MOST_PIXELS = 60_000_000


# Pillow warns of large ones: those are refused here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")


_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error)


def is_picture(path: Path) -> bool:
    """By its first bytes, else by its suffix, so that reading a damaged picture names the error."""
    try:
        with open_regular(path) as file:
            head = file.read(8)
    except OSError:
        head = b""
    return head.startswith(_MAGIC) or path.suffix.lower() in SUFFIXES


def read_picture_header(file: ImageFile) -> Header:
    """Size and storage of a picture; its pixels are not kept. Errors as read_picture."""
    with _opened(file.path) as (image, _):
        stored = stored_type(image)
        rows, columns = upright_shape(image)
    return Header(file.path, (rows, columns, 1), np.eye(4), (1.0, 1.0, 1.0), stored)


def read_picture(
    file: ImageFile, *, allow_constant: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One channel of a picture as displayed: float32 array_IJK and an affine of 1 mm.

    Palettes are applied, transparent pixels are black, 16 bits stay 16 bits, and grey pictures have
    equal red, green and blue.

    Raises:
        DataError: not a picture, damaged, several pictures in one file, or all pixels of one value,
            unless ``allow_constant``.
    """
    with _opened(file.path) as (image, opened):
        array = pixels(image, opened)
    if array.ndim == 3:
        array = _grey(array) if file.channel is None else array[..., file.channel]
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{file.path}: holds NaN or infinite pixels; repair it")
    if low == high and not allow_constant:
        raise DataError(f"{file.path}: every pixel is {low:g}; leave out the case")
    return np.ascontiguousarray(array, dtype=np.float32)[:, :, None], np.eye(4)


def read_picture_labels(
    file: ImageFile, allowed: tuple[int, ...]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A picture whose grey levels are labels: int16 array_IJK and an affine of 1 mm.

    Raises:
        DataError: as :func:`read_picture`, and for levels not among ``allowed``.
    """
    array_IJK, affine = read_picture(file, allow_constant=True)
    unknown = sorted(set(np.unique(array_IJK).tolist()) - set(allowed))
    if unknown:
        known = ", ".join(map(str, allowed))
        raise DataError(
            f"{file.path}: level {unknown[0]:g} is no label of a mask, which knows {known}; was it "
            "resized, or stored as JPEG?"
        )
    return array_IJK.astype(np.int16), affine


def write_picture_labels(path: Path, label_IJK: NDArray[Any]) -> None:
    """Write a label map of one slice as a PNG, of 16 bits where values exceed 255.

    Raises RunError if it cannot be written.
    """
    content = BytesIO()
    stored = np.uint8 if label_IJK.max(initial=0) < 256 else np.uint16
    Image.fromarray(label_IJK[..., 0].astype(stored)).save(content, format="PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def picture_facts(path: Path) -> dict[str, Any]:
    """``{"mode": as stored, "coloured": whether it is not grey}``."""
    with _opened(path) as (image, file):
        mode = image.mode
        array = pixels(image, file)
    if array.ndim == 2 or (array == array[..., :1]).all():
        return {"mode": mode, "coloured": False}
    distance = np.abs(array - _grey(array)[..., None]).mean()
    if array.dtype == np.uint16:
        distance /= 257
    return {"mode": mode, "coloured": bool(distance > GREY_TOLERANCE)}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, BinaryIO]]:
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            # Photographs (MPO) may also hold a preview; the pages of a TIFF are equal.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path}: holds several pictures, one is expected; split it")
            columns, rows = image.size
            if columns * rows > MOST_PIXELS:
                size = f"{columns} x {rows} pixels, more than {MOST_PIXELS / 1e6:.0f} million"
                raise DataError(f"{path}: {size}; make it smaller")
            yield image, file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        if not path.stat().st_size:
            raise DataError(f"{path}: the file is empty; fetch it again") from error
        raise DataError(
            f"{path}: no picture that can be read ({', '.join(FORMATS)}); save it as PNG of 8 "
            "or 16 bits, or fetch it again"
        ) from error
    except UnreadablePixels as error:
        raise DataError(f"{path}: {error}") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise DataError(f"{path}: too many pixels; make it smaller") from error
    except _DAMAGE as error:
        reason = str(getattr(error, "strerror", None) or error or "no reason given").splitlines()[0]
        kind = TruncatedFileError if "truncated" in reason else DataError  # as Pillow says
        raise kind(f"{path}: damaged ({reason}); fetch it again") from error


def _grey(array_IJH: NDArray[Any]) -> NDArray[Any]:
    if (array_IJH == array_IJH[..., :1]).all():
        return np.asarray(array_IJH[..., 0])
    return np.asarray(array_IJH @ np.asarray(LUMINANCE_H, dtype=np.float32))
