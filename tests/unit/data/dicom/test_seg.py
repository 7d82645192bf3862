"""DICOM segmentations lie where the label map lies, and say nothing of the patient."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import OBLIQUE, Scan, datasets, enhanced, save, write_scan
from numpy.testing import assert_allclose, assert_array_equal

from medtl.data.dicom.seg import region_code, write_seg
from medtl.data.dicom.series import find_series
from medtl.data.dicom.stacks import Stack
from medtl.errors import DataError

_TURNS = {
    "axial": np.eye(3),
    "axial, from the top": np.diag([1.0, -1.0, -1.0]),
    "negative cosines": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]).T,
    "oblique": OBLIQUE,
    "oblique, turned over": OBLIQUE @ np.diag([-1.0, 1.0, -1.0]),
}
REGIONS = ("WT", "TC", "hippocampus", "Blob 7")


def _stack(folder: Path) -> Stack:
    (series,) = find_series(folder).series
    (stack,) = series.stacks
    return stack


def _masks(stack: Stack) -> np.ndarray:
    """A box of each region; the third is empty."""
    masks_LIJK = np.zeros((len(REGIONS), *stack.shape), bool)
    masks_LIJK[0, 5:20, 8:30, 1:6] = True
    masks_LIJK[1, 6:11, 9:14, 2:4] = True
    masks_LIJK[3, 30:33, 40:47, 5] = True
    return masks_LIJK


#: Region -> its values in :func:`_label`.
VALUES = {"WT": (1, 2), "TC": (2,), "hippocampus": (4,), "Blob 7": (3,)}


def _label(stack: Stack) -> np.ndarray:
    """The label map of :func:`_masks`."""
    wt, tc, _, blob = _masks(stack).astype(np.uint8)
    return wt + tc + 3 * blob


def _centroid(mask_IJK: np.ndarray, stack: Stack) -> np.ndarray:
    """In x, y, z of DICOM (mm), by the affine that the label map is written with."""
    place = np.argwhere(mask_IJK).mean(axis=0) @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    return place * (-1, -1, 1)


def _centroid_of_seg(path: Path, number: int) -> np.ndarray:
    """By the places of its frames alone."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    along, down = np.reshape(
        np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3)
    )
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    places = []
    for frame, own in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if own.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        origin = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
        for j, i in np.argwhere(frame):
            places.append(origin + i * columns_mm * along + j * rows_mm * down)
    return np.mean(places, axis=0)


def check_places(path: Path, masks_LIJK: np.ndarray, stack: Stack) -> None:
    """Each segment lies where its region does."""
    for number, region in ((1, 0), (2, 1), (3, 3)):
        assert_allclose(
            _centroid_of_seg(path, number), _centroid(masks_LIJK[region], stack), atol=1e-3
        )


@pytest.mark.parametrize("turn", _TURNS.values(), ids=_TURNS)
def test_lies_where_the_label_map_lies(tmp_path: Path, turn: np.ndarray) -> None:
    write_scan(tmp_path / "in", Scan(turn=turn))
    stack = _stack(tmp_path / "in")
    masks_LIJK, path = _masks(stack), tmp_path / "seg.dcm"
    assert write_seg(path, _label(stack), VALUES, stack, "a model")
    check_places(path, masks_LIJK, stack)
    read = highdicom.seg.segread(path)
    shown = [n for n, mask in enumerate(masks_LIJK) if mask.any()]
    assert [each.SegmentLabel for each in read.SegmentSequence] == [REGIONS[n] for n in shown]
    volume = read.get_volume(combine_segments=False)
    voxels = volume.array.reshape(-1, len(shown)).sum(axis=0)
    assert_array_equal(voxels, masks_LIJK[shown].sum(axis=(1, 2, 3)))


def test_regions_that_do_not_overlap(tmp_path: Path) -> None:
    """They are handed on as one array of segment numbers."""
    write_scan(tmp_path / "in", Scan())
    stack = _stack(tmp_path / "in")
    values = {f"part {n}": (n,) for n in (3, 1, 300, 2)}
    label_IJK = _label(stack).astype(np.int16)
    label_IJK[20, 20, 1] = 300
    path = tmp_path / "seg.dcm"
    assert write_seg(path, label_IJK, values, stack, "a model")
    read = highdicom.seg.segread(path)
    assert [each.SegmentLabel for each in read.SegmentSequence] == list(values)
    found = read.get_volume(combine_segments=False).array.reshape(-1, 4).sum(axis=0)
    assert found.tolist() == [int((label_IJK == value).sum()) for (value,) in values.values()]
    for number, (value,) in enumerate(values.values(), start=1):
        expected = _centroid(label_IJK == value, stack)
        assert_allclose(_centroid_of_seg(path, number), expected, atol=1e-3)


@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), (3, 0, 6, 1, 5, 2, 4)])
def test_frames_of_one_file(tmp_path: Path, order: Sequence[int]) -> None:
    (tmp_path / "in").mkdir()
    save(enhanced(Scan(), order), tmp_path / "in" / "x.dcm")
    stack = _stack(tmp_path / "in")
    masks_LIJK, path = _masks(stack), tmp_path / "seg.dcm"
    assert write_seg(path, _label(stack), VALUES, stack, "a model")
    check_places(path, masks_LIJK, stack)


@pytest.mark.parametrize("lost", ["FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_header_that_allows_none_is_told(tmp_path: Path, lost: str) -> None:
    for n, dataset in enumerate(datasets(Scan())):
        save(dataset, tmp_path / f"{n}.dcm")
        delattr(dataset, lost)
        dataset.save_as(tmp_path / f"{n}.dcm", enforce_file_format=False)
    stack = _stack(tmp_path)
    with pytest.raises(DataError, match="does not allow a SEG"):
        write_seg(tmp_path / "seg.dcm", _label(stack), VALUES, stack, "a model")
    assert not (tmp_path / "seg.dcm").exists()


def test_a_label_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", Scan())
    stack = _stack(tmp_path / "in")
    with pytest.raises(DataError, match="does not lie on the grid of the series"):
        write_seg(tmp_path / "seg.dcm", _label(stack)[..., 1:], VALUES, stack, "a model")


def test_the_thickness_may_be_missing(tmp_path: Path) -> None:
    for n, dataset in enumerate(datasets(Scan())):
        del dataset.SliceThickness
        save(dataset, tmp_path / f"{n}.dcm")
    stack = _stack(tmp_path)
    assert write_seg(tmp_path / "seg.dcm", _label(stack), VALUES, stack, "a model")


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    write_scan(tmp_path / "in", Scan())
    stack = _stack(tmp_path / "in")
    empty = np.zeros(stack.shape, np.uint8)
    assert not write_seg(tmp_path / "seg.dcm", empty, VALUES, stack, "a model")
    assert not (tmp_path / "seg.dcm").exists()


def test_says_nothing_of_the_patient(tmp_path: Path) -> None:
    planted = {
        "PatientName": "Planted^Name", "PatientID": "PLANTED-1", "PatientBirthDate": "19010203",
        "InstitutionName": "Planted Hospital", "ReferringPhysicianName": "Planted^Doctor",
        "AccessionNumber": "PLANTED-2", "StudyID": "PLANTED-3", "StudyDate": "19040506",
        "StudyDescription": "Planted study", "PatientComments": "planted words",
        "OperatorsName": "Planted^Operator", "DeviceSerialNumber": "PLANTED-4",
        "PatientAge": "107Y", "PositionReferenceIndicator": "planted place",
        "OtherPatientIDs": "PLANTED-5", "ProtocolName": "planted protocol",
    }  # fmt: skip
    write_scan(tmp_path / "in", Scan(header=planted))
    stack = _stack(tmp_path / "in")
    write_seg(tmp_path / "seg.dcm", _label(stack), VALUES, stack, "a model")
    content = (tmp_path / "seg.dcm").read_bytes().lower()
    for text in (b"planted", b"19010203", b"19040506", b"107y", b"hospital"):
        assert text not in content


def test_no_error_of_dciodvfy(tmp_path: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    write_scan(tmp_path / "in", Scan())
    stack = _stack(tmp_path / "in")
    write_seg(tmp_path / "seg.dcm", _label(stack), VALUES, stack, "a model")
    done = subprocess.run([program, tmp_path / "seg.dcm"], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert not errors


@pytest.mark.parametrize(
    ("region", "value"),
    [
        ("WT", "108369006"),  # neoplasm
        ("edema", "79654002"),
        ("Necrosis", "6574001"),
        ("liver", "10200004"),
        ("hippocampus", "5366008"),
    ],
)
def test_codes_of_snomed(region: str, value: str) -> None:
    category, kind = region_code(region)
    assert (kind.scheme_designator, kind.value) == ("SCT", value)
    assert category.scheme_designator == "SCT"


def test_unknown_regions_have_codes_of_their_own() -> None:
    one, other = (region_code(name)[1] for name in ("Blob 7", "Blob 8"))
    assert one.scheme_designator == other.scheme_designator == "99MEDTL"
    assert one.value != other.value
    assert one.meaning == "Blob 7"
