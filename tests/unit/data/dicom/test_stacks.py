"""Series in DICOM become the volume that was scanned, or are refused with their slices' numbers."""

from __future__ import annotations

import random
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import OBLIQUE, Scan, datasets, enhanced, pattern, save, write_scan
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medtl.data.dicom.pixels import read_stack
from medtl.data.dicom.series import Series, find_series
from medtl.data.dicom.stacks import thinned
from medtl.data.io.geometry import to_canonical

#: Axial, coronal and sagittal slices, in both directions, and oblique ones.
_TURNS = {
    "axial": np.eye(3),
    "axial, from the top": np.diag([1.0, -1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T,
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]).T,
    "sagittal, from the left": np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]).T,
    "oblique": OBLIQUE,
    "oblique, turned over": OBLIQUE @ np.diag([-1.0, 1.0, -1.0]),
}


def one(folder: Path) -> Series:
    """The only series of a folder."""
    (series,) = find_series(folder).series
    return series


def check_same(folder: Path, scan: Scan) -> None:
    """The folder holds the scan, up to the order of its axes."""
    series = one(folder)
    assert not series.problem
    (stack,) = series.stacks
    found_IJK, affine, _ = to_canonical(read_stack(stack.frames), stack.affine)
    true_IJK, true_affine, _ = to_canonical(
        scan.values_IJK * scan.slope + scan.intercept, scan.affine
    )
    assert_allclose(affine, true_affine, atol=1e-6)
    assert_allclose(found_IJK, true_IJK, atol=1e-3)


@pytest.mark.parametrize("turn", _TURNS.values(), ids=_TURNS)
def test_orientations(tmp_path: Path, turn: np.ndarray) -> None:
    scan = Scan(turn=turn, slope=0.5, intercept=-3.25)
    write_scan(tmp_path, scan)
    check_same(tmp_path, scan)


def test_files_in_any_order_and_folder(tmp_path: Path) -> None:
    scan = Scan()
    paths = write_scan(tmp_path, scan)
    names = random.Random(0).sample(range(1000), len(paths))
    for n, path in zip(names, paths, strict=True):
        deep = tmp_path / f"a{n % 3}" / "b"
        deep.mkdir(parents=True, exist_ok=True)
        path.rename(deep / f"IM{n}")
    check_same(tmp_path, scan)


def test_instance_numbers_are_not_needed(tmp_path: Path) -> None:
    scan = Scan()
    for k, dataset in enumerate(datasets(scan)):
        del dataset.InstanceNumber
        save(dataset, tmp_path / f"{k}")
    check_same(tmp_path, scan)


def test_doubled_files_count_once(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path / "a", scan)
    write_scan(tmp_path / "b", scan)
    check_same(tmp_path, scan)
    assert one(tmp_path).stacks[0].doubled == 7


def test_zipped(tmp_path: Path) -> None:
    scan = Scan()
    paths = write_scan(tmp_path / "files", scan)
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"deep/{path.stem}")
    check_same(tmp_path / "study.zip", scan)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda syntax: UID(syntax).name,
)
def test_transfer_syntaxes(tmp_path: Path, syntax: UID) -> None:
    scan = Scan(slope=2.0, intercept=1.0)
    write_scan(tmp_path, scan, syntax=syntax)
    check_same(tmp_path, scan)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_several_frames_in_a_file(tmp_path: Path, syntax: UID) -> None:
    scan = Scan(slope=0.25, intercept=5.0)
    save(enhanced(scan), tmp_path / "x.dcm", syntax)
    check_same(tmp_path, scan)


def test_tilted_gantry_is_a_sheared_grid(tmp_path: Path) -> None:
    scan = Scan(turn=np.eye(3), tilt_degrees=12.0)
    write_scan(tmp_path, scan)
    check_same(tmp_path, scan)
    steps = one(tmp_path).stacks[0].affine[:3, :3]
    assert_allclose(abs(steps[1, 2] / steps[2, 2]), np.tan(np.radians(12)))


@pytest.mark.parametrize("lost", range(1, 6))
def test_missing_slice_is_named(tmp_path: Path, lost: int) -> None:
    paths = write_scan(tmp_path, Scan())
    paths[lost].unlink()
    problem = one(tmp_path).problem
    assert f"slices {lost}, {lost + 2} lie 6 mm apart" in problem
    assert "1 slice is missing" in problem


@pytest.mark.parametrize(
    ("apart", "thickness", "told"), [(3.0, 3.0, True), (3.0, 2.5, True), (1.0, 2.5, False)]
)
def test_every_second_slice_is_missing(
    tmp_path: Path, apart: float, thickness: float, told: bool
) -> None:
    """Told by the header alone; a distance below the thickness is the gap between slices."""
    scan = Scan(header={"SpacingBetweenSlices": apart, "SliceThickness": thickness})
    paths = write_scan(tmp_path, scan)
    (stack,) = one(tmp_path).stacks
    assert not thinned(stack)
    for path in paths[1::2]:
        path.unlink()
    (stack,) = one(tmp_path).stacks
    assert ("all slices lie 6 mm apart, 2 times the 3 mm" in thinned(stack)) == told
    assert bool(thinned(stack)) == told


def test_missing_slice_at_an_end_leaves_the_others_in_place(tmp_path: Path) -> None:
    scan = Scan()
    paths = write_scan(tmp_path, scan)
    paths[0].unlink()
    moved = np.array(scan.origin) + scan.steps[:, 2]
    check_same(tmp_path, replace(scan, values_IJK=scan.values_IJK[:, :, 1:], origin=tuple(moved)))


def test_two_series_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    scan = Scan()
    other = replace(scan.of(), values_IJK=pattern(seed=1))
    write_scan(tmp_path, scan, names="{k}a")
    write_scan(tmp_path, other, names="{k}b")
    found = {series.origin.series: series for series in find_series(tmp_path).series}
    assert found.keys() == {scan.series, other.series}
    for each in (scan, other):
        assert_array_equal(
            np.sort(read_stack(found[each.series].stacks[0].frames).ravel()),
            np.sort(each.values_IJK.ravel()),
        )


def test_two_series_under_one_number_are_refused(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path / "a", scan)
    write_scan(tmp_path / "b", replace(scan, values_IJK=pattern(seed=1)))
    assert "lie at one place and differ" in one(tmp_path).problem


def test_echoes_of_a_series_are_volumes_of_their_own(tmp_path: Path) -> None:
    scan = Scan(header={"EchoTime": 10.0})
    later = replace(scan, values_IJK=pattern(seed=1), header={"EchoTime": 80.0})
    write_scan(tmp_path / "a", scan)
    write_scan(tmp_path / "b", later)
    stacks = one(tmp_path).stacks
    assert [stack.frames[0].acquisition.echo_ms for stack in stacks] == [10.0, 80.0]
    for stack, each in zip(stacks, (scan, later), strict=True):
        assert_array_equal(
            np.sort(read_stack(stack.frames).ravel()), np.sort(each.values_IJK.ravel())
        )


def _spoilt(tmp_path: Path, k: int, **header: object) -> str:
    for n, dataset in enumerate(datasets(Scan())):
        if n == k:
            for name, value in header.items():
                setattr(dataset, name, value)
        save(dataset, tmp_path / f"{n}.dcm")
    return one(tmp_path).problem


def test_uneven_slices(tmp_path: Path) -> None:
    scan = Scan()
    place = np.array(scan.origin) + scan.steps[:, 2] * 3.4
    problem = _spoilt(tmp_path, 3, ImagePositionPatient=[float(mm) for mm in place])
    assert "slices 3, 4 lie 4.2 mm apart" in problem
    assert "unevenly" in problem


def test_slice_shifted_sideways(tmp_path: Path) -> None:
    scan = Scan()
    place = np.array(scan.origin) + scan.steps[:, 2] * 3 + scan.turn[:, 0] * 2
    problem = _spoilt(tmp_path, 3, ImagePositionPatient=[float(mm) for mm in place])
    assert problem == "slices 4 are shifted sideways against the others"


def test_turned_slice(tmp_path: Path) -> None:
    assert _spoilt(tmp_path, 2, ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0]).startswith("slices 3")


def test_slice_of_another_spacing(tmp_path: Path) -> None:
    assert "slices 2 have another pixel spacing" in _spoilt(tmp_path, 1, PixelSpacing=[2.0, 2.0])


def test_slope_of_each_slice(tmp_path: Path) -> None:
    scan = Scan()
    for k, dataset in enumerate(datasets(scan)):
        dataset.RescaleSlope = k + 1.0
        save(dataset, tmp_path / f"{k}.dcm")
    (stack,) = one(tmp_path).stacks
    found_IJK, _, _ = to_canonical(read_stack(stack.frames), stack.affine)
    true_IJK, _, _ = to_canonical(scan.values_IJK * np.arange(1, 8), scan.affine)
    assert_array_equal(found_IJK, true_IJK)


def test_localiser_is_set_aside(tmp_path: Path) -> None:
    scan = Scan(values_IJK=pattern((8, 8, 1)))
    for n, turn in enumerate((np.eye(3), _TURNS["coronal"], _TURNS["sagittal"])):
        write_scan(tmp_path / str(n), replace(scan, turn=turn))
    assert "is a localiser" in one(tmp_path).problem


def test_series_uid_of_a_study_alone(tmp_path: Path) -> None:
    """The same series number in two studies is two series."""
    scan = Scan()
    write_scan(tmp_path / "a", scan)
    write_scan(tmp_path / "b", replace(scan, study=generate_uid()))
    assert len(find_series(tmp_path).series) == 2
