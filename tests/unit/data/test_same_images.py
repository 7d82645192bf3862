"""One image under several patients is found before anything is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.modality import Modality
from medtl.data.same_images import PART, shared_images, with_sharers_joined
from medtl.errors import DataError
from medtl.runtime.console import Recorder

T1, ATLAS = Modality("t1"), Modality("atlas")

#: In the middle of an image below.
MIDDLE = 130_000


def volume(path: Path, seed: int, value: float | None = None) -> ImageFile:
    array = np.random.default_rng(seed).normal(size=(40, 40, 40)).astype(np.float32)
    array = array if value is None else np.full_like(array, value)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return ImageFile(path)


def cohort(folder: Path, count: int) -> Cohort:
    cases = [Case(f"c{n}", f"p{n}", {T1: volume(folder / f"c{n}.nii", n)}) for n in range(count)]
    return Cohort(folder, tuple(cases))


def patients(found: Cohort) -> list[str]:
    return [case.patient for case in found.cases]


def test_patients_with_the_same_image_count_as_one(tmp_path: Path) -> None:
    found, reporter = cohort(tmp_path, 5), Recorder(quiet=True)
    assert with_sharers_joined(found, (T1,), reporter) is found and not reporter.warnings
    shutil.copy(tmp_path / "c1.nii", tmp_path / "c3.nii")
    assert patients(with_sharers_joined(found, (T1,), reporter)) == ["p0", "p1", "p2", "p1", "p4"]
    assert "5 patients count as 4" in reporter.warnings[0]
    assert "c1.nii = c3.nii" in reporter.warnings[0]


def changed_at(folder: Path, place: int) -> Cohort:
    """Two patients whose images differ in one byte."""
    found = cohort(folder, 2)
    content = bytearray((folder / "c0.nii").read_bytes())
    content[place] ^= 1
    (folder / "c1.nii").write_bytes(content)
    return found


def test_files_that_differ_between_the_parts_compared_first_are_no_copies(tmp_path: Path) -> None:
    found = changed_at(tmp_path, 100_000)
    assert PART < 100_000 < (tmp_path / "c0.nii").stat().st_size // 2
    assert with_sharers_joined(found, (T1,), Recorder(quiet=True)) is found


def test_files_that_differ_in_the_middle_are_not_read_whole(tmp_path: Path, monkeypatch) -> None:
    found = changed_at(tmp_path, MIDDLE)

    def read(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr("medtl.data.same_images.content_of", read)
    assert with_sharers_joined(found, (T1,), Recorder(quiet=True)) is found


def test_one_file_listed_for_two_patients_joins_them(tmp_path: Path) -> None:
    found = cohort(tmp_path, 3)
    a, b, c = found.cases
    listed = Cohort(tmp_path, (a, Case("x", "px", a.images), b, c))
    reporter = Recorder(quiet=True)
    joined = with_sharers_joined(listed, (T1,), reporter)
    assert patients(joined) == ["p0", "p0", "p1", "p2"]
    assert "c0.nii of p0, px" in reporter.warnings[0]


def test_an_atlas_for_all_is_refused_where_it_is_used(tmp_path: Path) -> None:
    found, atlas = cohort(tmp_path, 4), volume(tmp_path / "atlas.nii", 99)
    cases = tuple(Case(c.id, c.patient, {**c.images, ATLAS: atlas}) for c in found.cases)
    whole, reporter = Cohort(tmp_path, cases), Recorder(quiet=True)
    assert with_sharers_joined(whole, (T1,), reporter) is whole and not reporter.warnings
    with pytest.raises(DataError, match=r"all 4 patients share images .*by --dst"):
        with_sharers_joined(whole, (T1, ATLAS), reporter)


def test_images_of_one_value_and_stated_leaks_are_left_alone(tmp_path: Path) -> None:
    blank = [volume(tmp_path / f"b{n}.nii", n, 0.0) for n in range(2)]
    found = Cohort(tmp_path, tuple(Case(f"c{n}", f"p{n}", {T1: f}) for n, f in enumerate(blank)))
    assert with_sharers_joined(found, (T1,), Recorder(quiet=True)) is found
    one = volume(tmp_path / "x.nii", 1)
    told = Cohort(tmp_path, tuple(Case(f"c{n}", f"p{n}", {T1: one}) for n in range(2)), leak="LEAK")
    assert with_sharers_joined(told, (T1,), Recorder(quiet=True)) is told


def test_copies_in_another_form_are_named(tmp_path: Path) -> None:
    a, b = cohort(tmp_path, 2).cases
    image = nib.load(tmp_path / "c0.nii")
    nib.save(image, tmp_path / "again.nii.gz")
    again = Case("again", "q", {T1: ImageFile(tmp_path / "again.nii.gz")})
    assert shared_images([again, b], [a]) == ["again.nii.gz = c0.nii"]
