"""The pixels of frames, in the units of the rescale slope and intercept.

Axes: J rows, I columns of a frame as DICOM has it; I J K voxels of a stack.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medtl.data.dicom.frames import MOST_COMPRESSED, Frame, reading
from medtl.errors import DataError

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_stack(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """The voxels (IJK) of slices of one size. The first slice is the first along K.

    Raises:
        DataError: a file without pixels, one that cannot be decoded, or values that are no numbers.
    """
    first = frames[0]
    held = {first.file: open_pixels(first)}  # refuses false sizes before memory is asked for
    volume_IJK = np.empty((first.columns, first.rows, len(frames)), np.float32)
    for k, frame in enumerate(frames):
        if frame.file not in held:
            held = {frame.file: open_pixels(frame)}  # one file at a time
        volume_IJK[:, :, k] = decode(held[frame.file], frame).T
    return volume_IJK


def picture_hash(frame: Frame) -> str:
    """A hash of the pixels of a frame, in the units of its slope."""
    picture_JI = np.ascontiguousarray(decode(open_pixels(frame), frame))
    return hashlib.blake2b(picture_JI.tobytes(), digest_size=16).hexdigest()


def open_pixels(frame: Frame) -> Dataset:
    """The data set of a frame's file, whose pixels can be decoded.

    Raises:
        DataError: it holds none, or fewer than its header declares.
    """
    with reading(frame.file), frame.file.opened() as stream:
        dataset = pydicom.dcmread(stream, force=True)
        if not any(name in dataset for name in _PIXELS):
            raise DataError(f"{frame.file}: holds no pixels; leave it out, or fetch it again")
        syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
        if syntax is None:  # as before DICOM had a header of its own
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = _unnamed_syntax(dataset)
    _check_size(dataset, frame)
    return dataset


def _unnamed_syntax(dataset: Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_size(dataset: Dataset, frame: Frame) -> None:
    """Refuse a header that declares more than its file can hold, before memory is asked for."""
    with reading(frame.file):
        bits = int(dataset.get("BitsAllocated") or 0)
        frames = int(dataset.get("NumberOfFrames") or 1)
        held = sum(len(dataset[name].value or b"") for name in _PIXELS if name in dataset)
        compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    declared = math.prod((frame.rows, frame.columns, frame.samples, frames)) * bits // 8
    if frame.rows < 1 or frame.columns < 1 or bits < 1:
        raise DataError(
            f"{frame.file}: {frame.rows} rows, {frame.columns} columns and {bits} bits make no "
            "image; leave it out"
        )
    if declared > held * (MOST_COMPRESSED if compressed else 1):
        raise DataError(
            f"{frame.file}: truncated (its header declares {declared} bytes of pixels, {held} are "
            "there); fetch it again"
        )


def decode(dataset: Dataset, frame: Frame) -> NDArray[np.float32]:
    """A frame (JI) as float32.

    Raises:
        DataError: it cannot be decoded, or holds values that are no numbers.
    """
    if frame.samples != 1:
        raise DataError(f"{frame}: is a colour picture, not a slice; leave it out")
    with reading(frame.file):
        stored_JI = pixel_array(dataset, index=frame.index or 0, raw=True)
    if stored_JI.shape != (frame.rows, frame.columns):
        raise DataError(f"{frame}: its pixels are not those of its header; fetch it again")
    values_JI = np.asarray(stored_JI * frame.slope + frame.intercept, np.float32)
    if not np.isfinite(values_JI).all():
        raise DataError(f"{frame}: holds pixels that are NaN or infinite; leave out the series")
    return values_JI
