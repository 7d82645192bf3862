"""BIDS: sessions are cases, subjects patients; sites and classes come from participants.tsv."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bids import write_bids

from medtl.data.case import Cohort
from medtl.data.formats.bids import is_bids, read_bids
from medtl.data.task import bound
from medtl.data.tasks.classification import Classification
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import DataError


@pytest.fixture
def root(small_phantom: Callable[..., Path], tmp_path: Path) -> Path:
    return write_bids(small_phantom(cases=4, size=24, sites=1, seed=0), tmp_path / "bids")


def cohort(root: Path) -> Cohort:
    return bound(Segmentation(), root).cases(root)


def test_segmentation(root: Path) -> None:
    assert is_bids(root)
    found = cohort(root)
    assert [case.id for case in found.cases] == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert [case.patient for case in found.cases] == [case.id for case in found.cases]
    assert [case.site for case in found.cases] == ["B", "A", "B", "A"]
    case = found.cases[0]
    assert sorted(case.images) == ["flair", "t1", "t1ce", "t2"]
    assert case.images["t1ce"].path.name == "sub-01_ce-gadolinium_T1w.nii.gz"
    assert case.images["t1"].path.name == "sub-01_T1w.nii.gz"
    assert case.regions == {"core": (1,), "edema": (2,), "enhancing": (4,)}
    assert case.target is not None
    assert "derivatives" in str(case.target.path)


def test_sessions_of_a_subject_share_the_patient(root: Path) -> None:
    for number in ("1", "2"):
        folder = root / "sub-01" / f"ses-{number}" / "anat"
        folder.mkdir(parents=True)
        for image in (root / "sub-01" / "anat").iterdir():
            name = image.name.replace("sub-01_", f"sub-01_ses-{number}_")
            shutil.copy(image, folder / name)
    shutil.rmtree(root / "sub-01" / "anat")
    listing = read_bids(root)
    own = [entry for entry in listing.entries if entry.patient == "sub-01"]
    assert [entry.id for entry in own] == ["sub-01_ses-1", "sub-01_ses-2"]
    assert all(entry.target is None for entry in own)


def test_classes_of_participants(small_phantom: Callable[..., Path], tmp_path: Path) -> None:
    phantom = small_phantom(cases=4, size=24, sites=1, seed=0)
    root = write_bids(phantom, tmp_path / "bids", modalities=("t1",))
    found = bound(Classification(), root).cases(root)
    assert [case.class_name for case in found.cases] == ["high", "low", "high", "low"]
    assert [case.site for case in found.cases] == ["B", "A", "B", "A"]
    assert [case.patient for case in found.cases] == ["sub-01", "sub-02", "sub-03", "sub-04"]


def test_further_images_of_a_contrast_are_left_out_with_a_warning(root: Path) -> None:
    folder = root / "sub-02" / "anat"
    for run in ("1", "2"):
        shutil.copy(folder / "sub-02_T2w.nii.gz", folder / f"sub-02_run-{run}_T2w.nii.gz")
    listing = read_bids(root)
    files = listing.entries[1].files.values()
    assert sorted(path.name for path in files if "T2w" in path.name) == ["sub-02_T2w.nii.gz"]
    assert any("sub-02_run-1_T2w.nii.gz" in note for note in listing.notes)


def test_a_mask_named_by_one_label(root: Path) -> None:
    derived = root / "derivatives" / "lesions"
    (derived / "dseg.tsv").unlink()
    for mask in list(derived.rglob("*_dseg.nii.gz")):
        mask.rename(mask.with_name(mask.name.replace("_dseg", "_label-lesion_mask")))
        brain = mask.with_name(mask.name.replace("_dseg", "_desc-brain_mask"))
        brain.write_bytes(b"no segmentation")
    assert read_bids(root).regions is not None
    assert dict(read_bids(root).regions.values) == {"lesion": (1,)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: shutil.rmtree(root / "derivatives"), "derivatives hold no masks"),
        (lambda root: [shutil.rmtree(p) for p in root.glob("sub-*")], r"no sub-\*/anat"),
        (
            lambda root: (root / "participants.tsv").write_text("name\tage\na\t1\n"),
            "has no column participant_id",
        ),
        (
            lambda root: (root / "participants.tsv").write_text(
                "participant_id\tage\nsub-01\t1\nsub-01\t2\n"
            ),
            "lists a participant twice",
        ),
        (
            lambda root: (root / "dataset_description.json").write_text("{"),
            "is not JSON",
        ),
        (
            lambda root: shutil.copytree(
                root / "derivatives" / "lesions", root / "derivatives" / "other"
            ),
            "are both segmentations of one session",
        ),
        (
            lambda root: (root / "derivatives" / "lesions" / "dseg.tsv").write_text("index\n1\n"),
            "needs the columns index and name",
        ),
        (
            lambda root: (root / "derivatives" / "lesions" / "dseg.tsv").write_text(
                "index\tname\none\tcore\n"
            ),
            "'one' is no value of a label",
        ),
    ],
)
def test_faults(root: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(root)
    with pytest.raises(DataError, match=said):
        cohort(root)


def test_subjects_that_the_table_lacks_are_warned_of(root: Path) -> None:
    path = root / "participants.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert any("does not list sub-04" in note for note in read_bids(root).notes)


def test_other_folders_are_no_bids(tmp_path: Path) -> None:
    assert not is_bids(tmp_path)
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "other"}))
    assert not is_bids(tmp_path)
