"""Studies become NIfTI on one grid, at the same places, without a word of whose they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import OBLIQUE, Scan, write_scan
from numpy.testing import assert_allclose

from medtl.data.cohort import open_cohort
from medtl.data.dicom.convert import Converted, convert_studies
from medtl.data.dicom.files import find_files, looks_like_dicom
from medtl.data.modality import parse_series
from medtl.errors import ConfigError, DataError
from medtl.runtime.cache import cache_dir
from medtl.runtime.console import Recorder
from medtl_brats.task import Brats

#: Centre of a ball in patient space, x to the left, y to the back, z up, and its radius (mm).
CENTRE, RADIUS_MM = np.array([-8.0, 60.0, 12.0]), 9.0


def ball(scan: Scan) -> Scan:
    """The scan of the ball, its edge smooth."""
    index = np.stack(np.meshgrid(*map(np.arange, scan.values_IJK.shape), indexing="ij"), axis=-1)
    places = index @ scan.steps.T + np.array(scan.origin)
    away_mm = np.linalg.norm(places - CENTRE, axis=-1)
    values = 1000 / (1 + np.exp((away_mm - RADIUS_MM) / 0.8))
    return replace(scan, values_IJK=np.round(values).astype(np.int16))


def centre_of(path: Path) -> np.ndarray:
    """The centre of mass in DICOM's x, y, z."""
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, float)
    index = np.argwhere(values > 0)
    mass = values[values > 0]
    place = (index * mass[:, None]).sum(0) / mass.sum()
    return (place @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)


def study(folder: Path) -> Scan:
    """FLAIR in oblique slices, T1 after contrast in axial ones."""
    empty = np.zeros((48, 56, 20), np.int16)
    flair = ball(Scan(values_IJK=empty, turn=OBLIQUE, origin=(-20.0, 30.0, -30.0)))
    post = Scan(values_IJK=np.zeros((60, 64, 30), np.int16), turn=np.eye(3), study=flair.study,
                spacing_mm=(1.0, 0.9, 2.0), origin=(-30.0, 35.0, -18.0))  # fmt: skip
    write_scan(folder / "a", flair.of(SeriesDescription="AX FLAIR"))
    write_scan(folder / "b", ball(post).of(SeriesDescription="AX T1 POST"))
    return post


def converted(folder: Path, *wanted: str, **named: str) -> Converted:
    return convert_studies(folder, wanted, Brats.modalities, Brats().image_path, named)


def test_images_lie_on_the_grid_of_t1_with_contrast(tmp_path: Path) -> None:
    post = study(tmp_path)
    done = converted(tmp_path, "flair", "t1ce")
    (found,) = done.studies
    for name in ("flair", "t1ce"):
        path = done.folder / found.id / f"{found.id}_{name}.nii"
        image = nibabel.load(path)
        assert image.shape == post.values_IJK.shape
        assert_allclose(image.affine, post.affine, atol=1e-4)
        assert_allclose(centre_of(path), CENTRE, atol=0.05)
    assert any(
        note.startswith("warning: ") and "flair laid onto the grid of t1ce" in note
        for note in done.notes
    )


def test_without_contrast_the_finest_grid_is_taken(tmp_path: Path) -> None:
    fine = ball(Scan(values_IJK=np.zeros((90, 90, 60), np.int16), spacing_mm=(0.6, 0.6, 1.0),
                     turn=np.eye(3), origin=(-30.0, 35.0, -18.0)))  # fmt: skip
    coarse = ball(replace(fine, values_IJK=np.zeros((30, 30, 10), np.int16),
                          spacing_mm=(1.8, 1.8, 6.0)))  # fmt: skip
    write_scan(tmp_path / "a", coarse.of(SeriesDescription="AX T1"))
    write_scan(tmp_path / "b", fine.of(SeriesDescription="AX T2"))
    done = converted(tmp_path, "t1", "t2")
    (found,) = done.studies
    image = nibabel.load(done.folder / found.id / f"{found.id}_t1.nii")
    assert_allclose(image.affine, fine.affine, atol=1e-4)


def test_images_can_stay_on_their_own_grids(tmp_path: Path) -> None:
    """Where they are registered they are interpolated once, from there."""
    study(tmp_path)
    done = convert_studies(
        tmp_path, ("flair", "t1ce"), Brats.modalities, Brats().image_path, own_grids=True
    )
    (found,) = done.studies
    stacks = {name: chosen.stack for name, chosen in found.images.items()}
    for name, stack in stacks.items():
        image = nibabel.load(done.folder / found.id / f"{found.id}_{name}.nii")
        assert image.shape == stack.shape
        assert_allclose(image.affine, stack.affine, atol=1e-4)
    assert stacks["flair"].shape != stacks["t1ce"].shape
    assert not any("laid onto" in note for note in done.notes)


def test_a_damaged_archive_leaves_the_others(tmp_path: Path) -> None:
    study(tmp_path)
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    done = converted(tmp_path, "flair", "t1ce")
    assert len(done.studies) == 1
    assert "damaged.zip: damaged archive" in done.unread[0]


def test_a_second_call_finds_what_the_first_wrote(tmp_path: Path) -> None:
    study(tmp_path)
    first = converted(tmp_path, "flair", "t1ce").folder
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*.nii")}
    again = converted(tmp_path, "flair", "t1ce").folder
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.nii")} == times
    assert converted(tmp_path, "t1ce").folder != first


def test_nothing_written_tells_whose_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "Surname_Given"
    study(folder)
    converted(folder, "flair", "t1ce")
    for path in (cache_dir() / "dicom").rglob("*"):
        assert "Surname" not in str(path)
        if path.is_file():
            content = path.read_bytes()
            for text in (b"Surname", b"Given", b"ID-4711", b"19700102", b"Somewhere"):
                assert text not in content


def test_no_wanted_series_names_what_is_there(tmp_path: Path) -> None:
    write_scan(tmp_path, Scan(header={"SeriesDescription": "AX T2"}))
    with pytest.raises(DataError, match=r"no series shows flair \(AX T2: shows t2"):
        converted(tmp_path, "flair")


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("nothing")
    assert not looks_like_dicom(tmp_path)
    with pytest.raises(DataError, match="holds no DICOM"):
        converted(tmp_path, "flair")


def test_beside_nifti_files_dicom_is_not_read(tmp_path: Path) -> None:
    write_scan(tmp_path / "z", Scan())
    assert looks_like_dicom(tmp_path)
    (tmp_path / "a.nii.gz").write_bytes(b"any")
    assert not looks_like_dicom(tmp_path)
    assert len(find_files(tmp_path)[0]) == 7


def test_cohorts_hold_studies_by_made_up_names(tmp_path: Path) -> None:
    study(tmp_path)
    reporter = Recorder()
    cohort = open_cohort(Brats(), tmp_path, reporter, required=("flair", "t1ce"), need_target=False)
    (case,) = cohort.cases
    assert case.id.startswith("study-")
    assert case.patient.startswith("patient-")
    assert case.slices is not None
    assert case.slices.shape == (60, 64, 30)
    assert any(f"{case.id}: flair AX FLAIR, t1ce AX T1 POST" in line for line in reporter.lines)


@pytest.mark.parametrize(
    ("series", "said"),
    [("flair", "write MODALITY=DESCRIPTION"), ("ct=x", "no modality ct"), ("flair=", "write")],
)
def test_bad_words_for_a_series(tmp_path: Path, series: str, said: str) -> None:
    study(tmp_path)
    with pytest.raises(ConfigError, match=said):
        named = parse_series([series])
        open_cohort(Brats(), tmp_path, Recorder(), series=named, need_target=False)


def test_series_are_of_dicom_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--series names series of DICOM"):
        open_cohort(Brats(), tmp_path, Recorder(), series={"flair": "x"}, need_target=False)


def test_a_study_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    study(tmp_path / "good")
    study(tmp_path / "bad")
    write_scan(tmp_path / "other", Scan(header={"SeriesDescription": "AX T2"}))
    victim = tmp_path / "bad" / "a" / "004.dcm"
    victim.write_bytes(victim.read_bytes()[:-100])
    for _ in range(2):  # the second call reads what the first one wrote
        done = converted(tmp_path, "flair", "t1ce")
        assert len(done.studies) == 1
        assert len(done.failed) == 2
        text = " ".join(done.failed.values())
        assert "004.dcm: truncated" in text
        assert "no series shows flair, t1ce (AX T2: shows t2, which is not needed)" in text


def test_failures_are_not_remembered(tmp_path: Path) -> None:
    study(tmp_path)
    victim = tmp_path / "a" / "004.dcm"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="truncated"):
        converted(tmp_path, "flair", "t1ce")
    assert not [path for path in cache_dir().rglob("*") if b"truncated" in _bytes(path)]
    victim.write_bytes(whole)
    assert len(converted(tmp_path, "flair", "t1ce").studies) == 1


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_one_more_study_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    study(tmp_path / "one")
    first = converted(tmp_path, "flair", "t1ce")
    times = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.nii")}
    study(tmp_path / "two")
    both = converted(tmp_path, "flair", "t1ce")
    assert len(both.studies) == 2
    assert len(list(both.folder.rglob("*.nii"))) == 4
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_tasks_that_name_files_otherwise_have_their_own(tmp_path: Path) -> None:
    study(tmp_path)
    brats = converted(tmp_path, "flair", "t1ce").folder

    def numbered(case: str, modality: str, number: int) -> str:
        return f"{case}_{number:04}.nii"

    other = convert_studies(tmp_path, ("flair", "t1ce"), Brats.modalities, numbered).folder
    assert other != brats
    assert len(list(other.glob("*_0000.nii"))) == 1


def test_images_of_another_place_are_refused(tmp_path: Path) -> None:
    scan = Scan(header={"SeriesDescription": "AX T1 POST"})
    write_scan(tmp_path / "a", scan)
    away = replace(scan.of(SeriesDescription="AX FLAIR"), origin=(400.0, 0.0, 0.0))
    write_scan(tmp_path / "b", away)
    with pytest.raises(DataError, match=r"flair shows 0% of what t1ce shows"):
        converted(tmp_path, "flair", "t1ce")


def test_a_damaged_archive_beside_other_data_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "aaa.zip").write_bytes(b"PK\x03\x04 and no more")
    assert not looks_like_dicom(tmp_path)
