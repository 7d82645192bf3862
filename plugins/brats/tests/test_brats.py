"""Every public layout and label convention, on small files written here and on real ones.

Axes: I J K voxels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtl.data.case import Case
from medtl.data.content_hash import fingerprint
from medtl.data.io.geometry import check_same_grid, to_canonical
from medtl.data.io.nifti import read_header, read_labels, read_volume
from medtl.errors import ConfigError, DataError
from medtl_brats.task import Brats, patient_of

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS[1, 3] = 239
SHAPE = (8, 8, 8)
OLD = {"flair": "flair", "t1": "t1", "t1ce": "t1ce", "t2": "t2", "seg": "seg"}
NEW = {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w", "seg": "seg"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(path: Path, array: np.ndarray, affine: np.ndarray = LPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, SHAPE).astype(np.int16)


def labels(values: Iterable[int], dtype=np.uint8) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    for value in values:
        array[value] = value
    return array


def write_case(
    root: Path,
    name: str,
    values: Iterable[int] | None = (1, 2, 4),
    *,
    words: dict[str, str] = OLD,
    joint: str = "_",
    suffix: str = ".nii.gz",
    affine: np.ndarray = LPS,
    without: Iterable[str] = (),
) -> Path:
    """A case folder ``root/name``; ``values`` None leaves it unlabelled."""
    folder = root / name
    for seed, modality in enumerate(("flair", "t1", "t1ce", "t2")):
        if modality not in without:
            file = folder / f"{name}{joint}{words[modality]}{suffix}"
            save(file, image(seed + sum(map(ord, name))), affine)
    if values is not None:
        save(folder / f"{name}{joint}{words['seg']}{suffix}", labels(values), affine)
    return folder


def write_new_case(root: Path, name: str, values: Iterable[int] | None = (1, 2, 3), **kw) -> Path:
    return write_case(root, name, values, words=NEW, joint="-", **kw)


def write_msd(root: Path, values: Iterable[int] = (1, 2, 3), test: int = 1) -> Path:
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    meanings = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    content = {"name": "BRATS", "modality": names, "labels": dict(enumerate(meanings))}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))
    four = np.stack([image(n) for n in range(4)], axis=-1)
    for number in (1, 2):
        save(root / "imagesTr" / f"BRATS_00{number}.nii.gz", four)
        save(root / "labelsTr" / f"BRATS_00{number}.nii.gz", labels(values))
    for number in range(test):
        save(root / "imagesTs" / f"BRATS_10{number}.nii.gz", four)
    (root / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"resource fork")
    return root


def write_deepmedic(root: Path, values: Iterable[int] = (1, 2, 3, 4)) -> Path:
    for seed, word in enumerate(("Flair", "T1", "T1c", "T2")):
        save(root / f"{word}_subtrMeanDivStd.nii.gz", image(seed).astype(np.float32) - 5.5)
    save(root / "OTMultiClass.nii.gz", labels(values, np.float32))
    save(root / "brainmask.nii.gz", labels([1]))
    return root


def only(root: Path, **options) -> Case:
    (case,) = Brats().cases(root, **options).cases
    return case


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def shared(*names: str) -> Path:
    default = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
    path = Path(os.environ.get("MEDTL_SHARED_DATA", default)).joinpath(*names)
    if not path.exists():
        pytest.skip(f"no real data at {path} (MEDTL_SHARED_DATA)")
    return path


# --- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_2013_to_2021_layout(tmp_path, suffix):
    write_case(tmp_path, "BraTS20_Training_001", suffix=suffix)
    case = only(tmp_path)
    assert case.id == case.patient == "BraTS20_Training_001"
    assert list(case.images) == ["flair", "t1", "t1ce", "t2"]
    for name, file in case.images.items():
        assert file.path.name == f"BraTS20_Training_001_{name}{suffix}"
    assert case.target.path.name == f"BraTS20_Training_001_seg{suffix}"
    assert case.regions == {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    assert (case.labels, case.part, case.site, case.stratum) == ((0, 1, 2, 4), "", "", "ET")


def test_nested_grades_are_the_strata(tmp_path):
    write_case(tmp_path / "Training" / "HGG", "Brats18_CBICA_AAM_1")
    write_case(tmp_path / "Training" / "LGG", "Brats18_TCIA09_141_1", (1, 2))
    high, low = Brats().cases(tmp_path).cases
    assert (high.stratum, high.part, high.site) == ("HGG", "Training/HGG", "CBICA")
    assert (low.stratum, low.part, low.site) == ("LGG", "Training/LGG", "TCIA09")
    assert low.patient == "Brats18_TCIA09_141"


def test_flat_folder_holds_many_cases(tmp_path):
    for name in ("A_1", "A_2"):
        folder = write_case(tmp_path, name)
        for file in folder.iterdir():
            file.rename(tmp_path / file.name)
    assert [case.id for case in Brats().cases(tmp_path).cases] == ["A_1", "A_2"]


def test_case_folder_itself_can_be_given(tmp_path, monkeypatch):
    folder = write_case(tmp_path, "BraTS2021_00001")
    assert only(folder).part == ""
    monkeypatch.chdir(folder)
    assert only(Path(".")).id == "BraTS2021_00001"


def test_case_355_of_2020_gets_its_odd_segmentation(tmp_path):
    folder = write_case(tmp_path, "BraTS20_Training_355", None, suffix=".nii")
    save(folder / "W39_1998.09.19_Segm.nii", labels([1, 2, 4]))
    write_case(tmp_path, "BraTS20_Training_356", None, suffix=".nii")
    cohort = Brats().cases(tmp_path)
    assert [case.target.path.name for case in cohort.cases] == ["W39_1998.09.19_Segm.nii"]
    assert any("355" in note and "W39" in note for note in cohort.notes)
    save(folder / "another_segm.nii", labels([1]))
    with pytest.raises(DataError, match="none of its 2 cases has a segmentation"):
        Brats().cases(tmp_path)


def test_2023_layout(tmp_path):
    write_new_case(tmp_path, "BraTS-GLI-00000-000")
    write_new_case(tmp_path, "BraTS-GLI-00000-001", (1, 2, 3, 4))
    first, second = Brats().cases(tmp_path).cases
    assert first.patient == second.patient == "BraTS-GLI-00000"
    assert first.images["t1ce"].path.name == "BraTS-GLI-00000-000-t1c.nii.gz"
    assert first.images["flair"].path.name == "BraTS-GLI-00000-000-t2f.nii.gz"
    assert first.regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert first.labels == (0, 1, 2, 3, 4)  # the resection cavity is legal, outside WT


def test_msd_layout(tmp_path):
    write_msd(tmp_path / "Task01_BrainTumour")
    cohort = Brats().cases(tmp_path)
    assert [case.id for case in cohort.cases] == ["BRATS_001", "BRATS_002"]
    assert any("1 unlabelled" in note for note in cohort.notes)
    case = cohort.cases[0]
    assert {name: file.channel for name, file in case.images.items()} == {
        "flair": 0, "t1": 1, "t1ce": 2, "t2": 3,
    }  # fmt: skip
    np.testing.assert_array_equal(read_volume(case.images["t1ce"])[0], image(2))
    assert case.regions == {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}
    assert (case.part, case.labels) == ("Training", (0, 1, 2, 3))
    everything = Brats().cases(tmp_path, need_target=False).cases
    assert [case.part for case in everything] == ["Training", "Training", "Test"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modality", {"0": "CT"}),
        ("modality", {"0": "FLAIR", "1": "FLAIR"}),
        ("modality", ["FLAIR"]),
        ("labels", {"0": "background", "1": "liver"}),
        ("labels", None),
    ],
)
def test_dataset_json_of_another_task_is_named(tmp_path, key, value):
    write_msd(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=r"dataset\.json: .*MSD Task01") as caught:
        Brats().cases(tmp_path)
    one_line(caught)
    path.write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: "):
        Brats().cases(tmp_path)


def test_deepmedic_layout(tmp_path):
    write_deepmedic(tmp_path / "brats_2013_pat0005_1")
    case = only(tmp_path)
    assert (case.id, case.patient) == ("brats_2013_pat0005_1", "brats_2013_pat0005")
    assert case.images["t1ce"].path.name == "T1c_subtrMeanDivStd.nii.gz"
    assert case.target.path.name == "OTMultiClass.nii.gz"
    assert case.regions == {"WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,)}


def test_layouts_mix_under_one_root_with_a_scheme_each(tmp_path):
    write_case(tmp_path, "BraTS2021_00001")
    write_new_case(tmp_path, "BraTS-GLI-00001-000")
    write_msd(tmp_path / "msd", test=0)
    write_deepmedic(tmp_path / "brats_2013_pat0001_1")
    cohort = Brats().cases(tmp_path)
    enhancing = {case.id: case.regions["ET"] for case in cohort.cases}
    assert enhancing == {
        "BraTS2021_00001": (4,), "BraTS-GLI-00001-000": (3,), "BRATS_001": (3,),
        "BRATS_002": (3,), "brats_2013_pat0001_1": (4,),
    }  # fmt: skip
    assert sum(note.startswith("labels: ") for note in cohort.notes) == 4
    assert "labels: 2014-2021 scheme (1 core, 2 oedema, 4 ET) for 1 case in 2013-2021 layout" in (
        cohort.notes
    )


def test_links_out_of_the_root_are_followed(tmp_path):
    outside = write_case(tmp_path / "elsewhere", "BraTS2021_00009")
    root = tmp_path / "root"
    write_case(root, "BraTS2021_00001")
    (root / "BraTS2021_00009").symlink_to(outside, target_is_directory=True)
    (root / "store").mkdir()
    real = root / "BraTS2021_00001" / "BraTS2021_00001_t1.nii.gz"
    real.rename(root / "store" / "blob")
    real.symlink_to(root / "store" / "blob")  # as data managers keep their files
    cohort = Brats().cases(root, required=("t1",))
    assert [case.id for case in cohort.cases] == ["BraTS2021_00001", "BraTS2021_00009"]


def test_what_is_no_file_is_refused_at_once(tmp_path):
    folder = write_case(tmp_path, "BraTS2021_00001")
    path = folder / "BraTS2021_00001_t1.nii.gz"
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(DataError, match="1 link to nowhere"):
        Brats().cases(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is a pipe"):
        Brats().cases(tmp_path)
    path.unlink()
    os.rename(os.fsencode(folder), os.fsencode(tmp_path) + b"/P\xe9")
    with pytest.raises(DataError, match=r"P\\udce9' is not UTF-8"):
        Brats().cases(tmp_path)


def test_one_case_in_two_places_is_an_error(tmp_path):
    for grade in ("HGG", "LGG"):
        write_case(tmp_path / grade, "Brats18_2013_0_1")
    with pytest.raises(DataError, match=r"Brats18_2013_0_1: found in .*HGG.* and in .*LGG"):
        Brats().cases(tmp_path)


def test_two_forms_of_one_image_are_one_image(tmp_path):
    folder = write_case(tmp_path, "BraTS2021_00001")
    save(folder / "BraTS2021_00001_t1.nii", image(1))
    cohort = Brats().cases(tmp_path)
    assert cohort.cases[0].images["t1"].path.suffix == ".nii"
    assert any(".nii.gz" in note for note in cohort.notes)
    save(folder / "BraTS2021_00001_t1gd.nii.gz", image(1))
    with pytest.raises(DataError, match=r"BraTS2021_00001: both .*t1ce.* and .*t1gd"):
        Brats().cases(tmp_path)


def test_phantom_is_said_to_be_synthetic_with_its_sites(tmp_path):
    write_case(tmp_path, "Phantom_0001")
    write_case(tmp_path, "Phantom_0002", ())
    index = {"synthetic": True, "sites": {"Phantom_0001": "S1", "Phantom_0002": "S2"}}
    (tmp_path / "phantom.json").write_text(json.dumps(index))
    cohort = Brats().cases(tmp_path)
    assert cohort.synthetic and "synthetic phantom" in cohort.notes[0]
    assert [case.site for case in cohort.cases] == ["S1", "S2"]
    assert [case.stratum for case in cohort.cases] == ["ET", "no tumour"]
    assert Brats().cases(tmp_path / "Phantom_0001").synthetic


def test_name_mapping_tells_grade_and_site(tmp_path):
    write_case(tmp_path, "BraTS20_Training_001")
    header = "Grade,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"
    row = "LGG,Brats18_TCIA08_167_1,TCGA-06-0001,BraTS19_TCIA08_167_1"
    (tmp_path / "name_mapping.csv").write_text(
        f"{header},BraTS_2020_subject_ID\n{row},BraTS20_Training_001\n"
    )
    case = only(tmp_path)
    assert (case.stratum, case.site) == ("LGG", "TCIA08")


@pytest.mark.parametrize(
    ("case_id", "patient"),
    [
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00006", "BraTS2021_00006"),
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000"),
        ("BraTS-GLI-02060-100", "BraTS-GLI-02060"),
        ("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001"),
        ("brats_2013_pat0005_1", "brats_2013_pat0005"),
        ("brats_tcia_pat105_0283", "brats_tcia_pat105"),
        ("Brats17_2013_0_1", "Brats17_2013_0"),
        ("TCGA-FG-6692", "TCGA-FG-6692"),
        ("Phantom_0001", "Phantom_0001"),
        ("BRATS_001", "BRATS_001"),
    ],
)
def test_scans_of_one_patient_share_it(case_id, patient):
    assert patient_of(case_id) == patient


# --- label schemes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "values", "regions"),
    [
        (write_case, (1, 2), {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}),
        (write_case, (1, 2, 4), {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}),
        (write_case, (1, 2, 3, 4), {"WT": (1, 2, 3, 4), "TC": (1, 3, 4), "ET": (4,)}),
        (write_new_case, (1, 2), {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}),
        (write_new_case, (1, 2, 3), {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}),
        (write_new_case, (1, 2, 3, 4), {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}),
    ],
)
def test_values_decide_the_scheme(tmp_path, write, values, regions):
    write(tmp_path, "case", values)
    assert only(tmp_path).regions == regions


def test_the_cohort_decides_not_the_case(tmp_path):
    write_case(tmp_path, "A", (1, 3))
    write_case(tmp_path, "B", (2, 4))
    assert {case.regions["TC"] for case in Brats().cases(tmp_path).cases} == {(1, 3, 4)}


@pytest.mark.parametrize(
    ("write", "values", "file"),
    [
        (write_case, (1, 2, 3), "case_seg.nii.gz"),
        (write_new_case, (1, 2, 4), "case-seg.nii.gz"),
    ],
)
def test_undecidable_labels_ask_for_the_option(tmp_path, write, values, file):
    write(tmp_path, "case", values)
    with pytest.raises(DataError) as caught:
        Brats().cases(tmp_path)
    text = one_line(caught)
    assert file in text and "--labels" in text and "2013" in text


def test_option_overrides_the_decision(tmp_path):
    write_case(tmp_path, "case", (1, 2, 3))
    assert only(tmp_path, labels="2023").regions["ET"] == (3,)
    assert only(tmp_path, labels="2013").regions["TC"] == (1, 3, 4)
    assert only(tmp_path, labels="MSD").regions["TC"] == (2, 3)
    with pytest.raises(DataError, match=r"case_seg\.nii\.gz: unknown label 3.*--labels"):
        Brats().cases(tmp_path, labels="2014-2021")
    with pytest.raises(ConfigError, match="--labels"):
        Brats().cases(tmp_path, labels="2031")


@pytest.mark.parametrize("write", [write_case, write_new_case])
def test_unknown_label_names_the_file(tmp_path, write):
    write(tmp_path, "good")
    write(tmp_path, "odd", (1, 5))
    with pytest.raises(DataError, match=r"odd.seg\.nii\.gz: unknown label 5") as caught:
        Brats().cases(tmp_path)
    assert "--labels" in one_line(caught)


def test_msd_and_deepmedic_values_must_fit(tmp_path):
    write_msd(tmp_path / "a", values=(1, 4))
    with pytest.raises(DataError, match=r"BRATS_001\.nii\.gz: unknown label 4"):
        Brats().cases(tmp_path / "a")
    write_deepmedic(tmp_path / "b", (1, 6))
    with pytest.raises(DataError, match=r"OTMultiClass\.nii\.gz: unknown label 6"):
        Brats().cases(tmp_path / "b")


def test_paediatric_labels_are_not_guessed(tmp_path):
    write_new_case(tmp_path, "BraTS-PED-00001-000")
    with pytest.raises(DataError, match=r"BraTS-PED-00001-000-seg\.nii\.gz: .*--labels"):
        Brats().cases(tmp_path)
    assert only(tmp_path, labels="2023").regions["ET"] == (3,)


def test_floating_point_labels_equal_whole_ones(tmp_path):
    folder = write_new_case(tmp_path, "BraTS-GLI-00000-000")
    before = only(tmp_path)
    seg = folder / "BraTS-GLI-00000-000-seg.nii.gz"
    save(seg, labels([1, 2, 3], np.float32) * np.float32(0.9999999))
    after = only(tmp_path)
    assert after == before
    np.testing.assert_array_equal(read_labels(after.target, after.labels)[0], labels([1, 2, 3]))


# --- orientation -----------------------------------------------------------------------------


def test_ras_and_lps_copies_are_the_same_case(tmp_path):
    lps = only(write_case(tmp_path / "lps", "BraTS2021_00001"))
    ras_folder = tmp_path / "ras" / "BraTS2021_00001"
    for file in (lps.target, *lps.images.values()):
        stored = nib.load(file.path)
        save(
            ras_folder / file.path.name,
            np.asanyarray(stored.dataobj)[::-1, ::-1],
            stored.affine @ np.array([[-1, 0, 0, 7], [0, -1, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1]]),
        )
    ras = only(ras_folder)
    assert nib.aff2axcodes(read_header(ras.target).affine) == ("R", "A", "S")
    assert fingerprint(lps) == fingerprint(ras)
    assert (lps.regions, lps.stratum) == (ras.regions, ras.stratum)
    for a, b in zip(lps.images.values(), ras.images.values(), strict=True):
        (array_a, affine_a, _), (array_b, affine_b, _) = (
            to_canonical(*read_volume(file)) for file in (a, b)
        )
        np.testing.assert_array_equal(array_a, array_b)
        np.testing.assert_allclose(affine_a, affine_b)


# --- what goes wrong -------------------------------------------------------------------------


def test_missing_or_empty_folder_says_what_is_understood(tmp_path):
    (tmp_path / "cases.csv").write_text("case,t1,label\n")
    with pytest.raises(DataError, match=r"cases\.csv: is a file; brats reads a folder of cases"):
        Brats().cases(tmp_path / "cases.csv")
    with pytest.raises(DataError, match="gone: no such folder"):
        Brats().cases(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no cases found.*_flair.*-t2f.*MSD.*DeepMedic") as caught:
        Brats().cases(tmp_path)
    assert str(tmp_path) in one_line(caught)


@pytest.mark.parametrize(
    ("write", "expected"),
    [(write_case, "case_t1ce.nii.gz"), (write_new_case, "case-t1c.nii.gz")],
)
def test_missing_modality_says_which_file_is_expected(tmp_path, write, expected):
    folder = write(tmp_path, "case", without=["t1ce"])
    with pytest.raises(DataError) as caught:
        Brats().cases(tmp_path, required=("flair", "t1ce"))
    assert one_line(caught) == f"case: no t1ce file in {folder}; expected {expected}"
    assert list(only(tmp_path, required=("flair", "t1")).images) == ["flair", "t1", "t2"]


def test_unlabelled_cases_are_for_predicting(tmp_path):
    write_case(tmp_path, "A")
    write_case(tmp_path, "B", None)
    cohort = Brats().cases(tmp_path)
    assert [case.id for case in cohort.cases] == ["A"]
    assert "1 unlabelled cases were left out" in cohort.notes
    cases = Brats().cases(tmp_path, need_target=False).cases
    assert [case.target is None for case in cases] == [False, True]
    assert cases[1].regions == cases[0].regions and cases[1].stratum == ""
    with pytest.raises(DataError, match="none of its 1 cases has a segmentation"):
        Brats().cases(tmp_path / "B")


def test_truncated_segmentation_is_named(tmp_path):
    folder = write_case(tmp_path, "A")
    seg = folder / "A_seg.nii.gz"
    seg.write_bytes(seg.read_bytes()[:60])
    with pytest.raises(DataError, match=r"A_seg\.nii\.gz: ") as caught:
        Brats().cases(tmp_path)
    one_line(caught)


def test_images_of_unknown_names_are_warned_of(tmp_path):
    write_case(tmp_path, "A")
    assert not any("no known name" in note for note in Brats().cases(tmp_path).notes)
    save(tmp_path / "B" / "B-t1-weighted.nii.gz", labels([1]))
    told = "warning: files of no known name are not read: B/B-t1-weighted.nii.gz"
    assert told in Brats().cases(tmp_path).notes


def test_segmentation_without_images_is_counted(tmp_path):
    write_case(tmp_path, "A")
    save(tmp_path / "B" / "B_seg.nii.gz", labels([1]))
    assert "1 segmentations without images were left out" in Brats().cases(tmp_path).notes


# --- the plugin ------------------------------------------------------------------------------


def test_plugin_and_task_import_nothing_heavy():
    code = (
        "import sys, medtl_brats.plugin as p; (c,) = p.medtl_tasks(); task = c.load()();"
        "assert task.name == c.name == 'brats' and p.PLUGIN_API == 1;"
        "heavy = {'numpy', 'nibabel', 'torch', 'monai', 'scipy', 'pydantic'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


# --- real files ------------------------------------------------------------------------------


def test_real_2021_and_2023_cases():
    cohort = Brats().cases(shared("brats"), required=("flair", "t1", "t1ce", "t2"))
    assert {case.id: case.regions["ET"] for case in cohort.cases} == {
        "BraTS-GLI-00000-000": (3,), "BraTS2021_00006": (4,), "BraTS2021_01476": (4,),
        "BraTS2021_01479": (4,), "BraTS2021_01480": (4,), "BraTS2021_01482": (4,),
    }  # fmt: skip
    assert [case.id for case in cohort.cases if case.stratum == "no ET"] == ["BraTS2021_01480"]
    assert not cohort.synthetic
    for case in cohort.cases:
        check_same_grid(case, {n: read_header(f) for n, f in case.images.items()})


def test_real_2013_case():
    case = only(shared("brats2013"))
    assert list(case.images) == ["flair", "t1ce"]
    assert case.regions["TC"] == (1, 3, 4)
    headers = {name: read_header(file) for name, file in case.images.items()}
    check_same_grid(case, headers | {"segmentation": read_header(case.target)})


def test_real_unlabelled_case_is_ras():
    case = only(shared("brats_unlabelled"), need_target=False)
    assert nib.aff2axcodes(read_header(case.images["t1"]).affine) == ("R", "A", "S")
    assert (case.patient, case.regions["ET"]) == ("BraTS-MET-00110", (3,))


def test_real_raw_case_has_grids_that_differ():
    case = only(shared("brats_raw"), need_target=False)
    assert (case.id, case.site, len(case.images)) == ("TCGA-FG-6692", "FG", 4)
    with pytest.raises(DataError, match=r"TCGA-FG-6692: flair .*fla.*208x256x26, t1 .*resample"):
        check_same_grid(case, {n: read_header(f) for n, f in case.images.items()})
