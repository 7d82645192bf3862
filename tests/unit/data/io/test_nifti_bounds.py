"""Headers that declare the impossible are refused from the file's size; checksums are verified."""

from __future__ import annotations

import gzip
import struct
import threading
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtl.data.case import ImageFile
from medtl.data.io.nifti import (
    count_volumes,
    label_counts,
    opened,
    read_header,
    read_volume,
)
from medtl.errors import DataError

ODD = {
    "vox_offset inf": (nib.Nifti1Image, "f", 108, (np.inf,)),
    "vox_offset nan": (nib.Nifti1Image, "f", 108, (np.nan,)),
    "scl_inter inf": (nib.Nifti1Image, "ff", 112, (1.0, np.inf)),
    "2**60 voxels": (nib.Nifti2Image, "4q", 16, (3, 2**60, 20, 20)),
    "2**45 voxels": (nib.Nifti1Image, "4h", 40, (3, 2**15 - 1, 2**15 - 1, 2**15 - 1)),
    "2**40 volumes": (nib.Nifti2Image, "5q", 16, (4, 20, 20, 20, 2**40)),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["nii", "gz"])
@pytest.mark.parametrize("kind,form,place,values", ODD.values(), ids=ODD)
def test_impossible_headers_are_refused_without_memory(
    tmp_path: Path, kind: type, form: str, place: int, values: tuple[float, ...], zipped: bool
) -> None:
    content = bytearray(kind(np.ones((20, 20, 20), np.int16), np.eye(4)).to_bytes())
    struct.pack_into(f"<{form}", content, place, *values)
    path = tmp_path / "x.nii"
    path.write_bytes(gzip.compress(bytes(content)) if zipped else bytes(content))
    tracemalloc.start()
    for read in (read_header, read_volume, label_counts, lambda file: count_volumes(file.path)):
        try:
            read(ImageFile(path))
        except DataError as error:
            assert str(path) in str(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    with pytest.raises(DataError):
        read_volume(ImageFile(path))


@pytest.mark.parametrize("after", [b"", bytes(100_000)], ids=["at the end", "before more bytes"])
def test_the_checksum_of_a_zipped_file_is_verified(tmp_path: Path, after: bytes) -> None:
    array = np.arange(8000, dtype=np.int16).reshape(20, 20, 20)
    content = gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes() + after)
    path = tmp_path / "x.nii.gz"
    path.write_bytes(content)
    assert read_volume(ImageFile(path))[0].sum() == array.sum()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    with pytest.raises(DataError, match="fetch"):
        read_volume(ImageFile(path))


def test_what_nibabel_finds_odd_is_logged_for_others_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)).to_bytes())
    struct.pack_into("<f", content, 108, 354.0)  # vox_offset, no multiple of 16
    path = tmp_path / "x.nii"
    path.write_bytes(bytes(content) + bytes(2))
    reading, done = threading.Event(), threading.Event()

    def another() -> None:
        reading.wait(20)
        nib.load(path)
        done.set()

    thread = threading.Thread(target=another)
    thread.start()
    with caplog.at_level(0, logger="nibabel.global"):
        read_header(ImageFile(path))
        read_volume(ImageFile(path), allow_constant=True)
        assert not caplog.records
        with opened(path):
            reading.set()
            assert done.wait(20)
    thread.join()
    assert any("vox offset" in record.getMessage() for record in caplog.records)
