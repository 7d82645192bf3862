"""Broken DICOM is set aside or refused in one line that names the file or the slices."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import Scan, datasets, enhanced, pattern, save, write_scan
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless, SegmentationStorage

from medtl.data.dicom import files
from medtl.data.dicom.convert import convert_studies
from medtl.errors import DataError
from medtl_brats.task import Brats

Spoil = Callable[[list[Path]], None]


def header(**values: Any) -> Spoil:
    """The third slice with other values; None deletes."""

    def spoil(paths: list[Path]) -> None:
        dataset = datasets(Scan(series="1.2.3", study="1.2.4"))[2]
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        save(dataset, paths[2])

    return spoil


def content(change: Callable[[bytes], bytes]) -> Spoil:
    """The third slice with other bytes."""

    def spoil(paths: list[Path]) -> None:
        paths[2].write_bytes(change(paths[2].read_bytes()))

    return spoil


def element(group: int, number: int, kind: bytes, value: bytes) -> Spoil:
    """The third slice with the bytes of a short element replaced."""

    def change(data: bytes) -> bytes:
        at = data.index(struct.pack("<HH", group, number), 132)
        length = struct.unpack("<H", data[at + 6 : at + 8])[0]
        new = struct.pack("<HH2sH", group, number, kind, len(value)) + value
        return data[:at] + new + data[at + 8 + length :]

    return content(change)


def encapsulated(fragment: bytes, syntax: str) -> Spoil:
    """The third slice with a fragment that no decoder reads."""

    def spoil(paths: list[Path]) -> None:
        dataset = datasets(Scan(series="1.2.3", study="1.2.4"))[2]
        save(dataset, paths[2])
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([fragment])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(paths[2], enforce_file_format=True, implicit_vr=False, little_endian=True)

    return spoil


def alone(make: Callable[[Path], None]) -> Spoil:
    """Another file in place of all slices."""

    def spoil(paths: list[Path]) -> None:
        for path in paths:
            path.unlink()
        make(paths[0])

    return spoil


def frames(change: Callable[[Dataset], None]) -> Spoil:
    """All slices in one file, which is changed."""

    def make(path: Path) -> None:
        dataset = enhanced(Scan(series="1.2.3", study="1.2.4"))
        change(dataset)
        save(dataset, path)

    return alone(make)


def _without_position(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def _segmentation(path: Path) -> None:
    dataset = datasets(Scan(series="1.2.3", study="1.2.4"))[0]
    dataset.SOPClassUID, dataset.Modality = SegmentationStorage, "SEG"
    save(dataset, path)


def _private_only(path: Path) -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.5"
    block = dataset.private_block(0x0029, "SOMEONE", create=True)
    block.add_new(1, "LO", "nothing else")
    save(dataset, path)


_PREAMBLE = b"\0" * 128 + b"DICM"

_FAULTS: dict[str, Spoil] = {
    "empty": content(lambda data: b""),
    "preamble alone": content(lambda data: data[:132]),
    "cut in the file's own header": content(lambda data: data[:200]),
    "cut in the header": content(lambda data: data[:600]),
    "cut in the pixels": content(lambda data: data[:-400]),
    "without the last byte": content(lambda data: data[:-1]),
    "zeros after the preamble": content(lambda data: _PREAMBLE + b"\0" * 2000),
    "noise after the preamble": content(
        lambda data: _PREAMBLE + np.random.default_rng(0).bytes(4000)
    ),
    "ones after the preamble": content(lambda data: _PREAMBLE + b"\xff" * 2000),
    "noise after half": content(
        lambda data: data[: len(data) // 4] + np.random.default_rng(1).bytes(len(data) // 2)
    ),
    "no pixels": header(PixelData=None),
    "empty pixels": header(PixelData=b""),
    "rows of 0": header(Rows=0),
    "columns of 0": header(Columns=0),
    "rows without a value": header(Rows=None),
    "absurd rows and columns": header(Rows=65535, Columns=65535),
    "absurd number of frames": header(NumberOfFrames=2**31 - 1),
    "negative number of frames": header(NumberOfFrames=-3),
    "0 bits": header(BitsAllocated=0),
    "12 bits a pixel": header(BitsAllocated=12),
    "colour": header(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
    "no position": header(ImagePositionPatient=None),
    "no orientation": header(ImageOrientationPatient=None),
    "no pixel spacing": header(PixelSpacing=None),
    "position of two numbers": header(ImagePositionPatient=[1.0, 2.0]),
    "orientation of zeros": header(ImageOrientationPatient=[0.0] * 6),
    "orientation that is skewed": header(ImageOrientationPatient=[1.0, 0, 0, 0.7, 0.7, 0]),
    "orientation of five numbers": header(ImageOrientationPatient=[1.0, 0, 0, 0, 1]),
    "spacing of 0": header(PixelSpacing=[0.0, 0.8]),
    "negative spacing": header(PixelSpacing=[-1.1, 0.8]),
    "position in words": element(0x20, 0x32, b"DS", b"a\\b\\cd"),
    "spacing that is NaN": element(0x28, 0x30, b"DS", b"nan\\nan "),
    "rows as text": element(0x28, 0x10, b"LO", b"many"),
    "rows of an unknown kind": element(0x28, 0x10, b"ZZ", b"\x10\0"),
    "infinite slope": element(0x28, 0x1053, b"DS", b"1e400 "),
    "slope in words": element(0x28, 0x1053, b"DS", b"steep "),
    "rle of nothing": encapsulated(b"\0" * 64, RLELossless),
    "rle of noise": encapsulated(np.random.default_rng(2).bytes(300), RLELossless),
    "jpeg 2000 of noise": encapsulated(np.random.default_rng(3).bytes(300), JPEG2000Lossless),
    "jpeg 2000 of nothing": encapsulated(b"\0\0", JPEG2000Lossless),
    "an unknown syntax": encapsulated(b"\0" * 64, "1.2.3.4.5.6.7"),
    "frames without a place": frames(_without_position),
    "more frames than are described": frames(lambda d: setattr(d, "NumberOfFrames", 9)),
    "frames and no groups": frames(lambda d: delattr(d, "PerFrameFunctionalGroupsSequence")),
    "frames of cut pixels": frames(lambda d: setattr(d, "PixelData", d.PixelData[:-100])),
    "a segmentation": alone(_segmentation),
    "private elements alone": alone(_private_only),
    "a folder's index": alone(lambda path: path.with_name("DICOMDIR").write_bytes(_PREAMBLE)),
    "text": alone(lambda path: path.write_text("DICM but no DICOM")),
}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_scan(tmp_path / "in", Scan(series="1.2.3", study="1.2.4"))


@pytest.mark.parametrize("spoil", _FAULTS.values(), ids=_FAULTS)
def test_faults(paths: list[Path], spoil: Spoil) -> None:
    spoil(paths)
    folder = paths[0].parent
    with pytest.raises(DataError) as refused:
        convert_studies(folder, ("t1",), Brats.modalities, Brats().image_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_more_than_forty_faults() -> None:
    assert len(_FAULTS) >= 40


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("cut", "damaged archive"),
        ("bomb", "unpacks to"),
        ("empty", "holds no DICOM"),
        ("outside", "holds no DICOM"),
    ],
)
def test_archives(tmp_path: Path, what: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1_000_000)
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if what == "bomb":
            archive.writestr("x.dcm", _PREAMBLE + b"\0" * 2_000_000)
        elif what == "outside":
            archive.writestr("../../outside.txt", b"not DICOM")
        elif what == "cut":
            archive.writestr("x.dcm", np.random.default_rng(0).bytes(5000))
    if what == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=said):
        convert_studies(path, ("t1",), Brats.modalities, Brats().image_path)
    assert [each.name for each in tmp_path.iterdir()] == ["study.zip"]


def test_a_member_outside_of_the_archive_is_read_and_not_written(tmp_path: Path) -> None:
    paths = write_scan(tmp_path / "in", Scan(values_IJK=pattern((16, 16, 4))))
    archive_path = tmp_path / "study.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        for path in paths:
            archive.write(path, f"../../{path.name}")
    done = convert_studies(archive_path, ("t1",), Brats.modalities, Brats().image_path)
    assert len(done.studies) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "study.zip"]
