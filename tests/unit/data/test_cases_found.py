"""Which cases are found: parts, missing cells, links, masks and lists in the words of others."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medtl.data.case import Cohort
from medtl.data.cohort import open_cohort
from medtl.data.formats.cells import spelling, stated
from medtl.data.formats.nnunet import read_flat
from medtl.data.formats.parts import TESTING, TRAINING, VALIDATION, kind_of
from medtl.data.formats.table import read_table
from medtl.data.tasks.classification import Classification
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import ConfigError, DataError
from medtl.runtime.console import Recorder

KINDS = {
    TRAINING: ["train", "Training", "TRAIN ", "imagesTr_train", "train_val", "tr", "train set"],
    VALIDATION: ["valid", "val", "Validation", "dev", "Dev_set", "VAL2", "internal validation"],
    TESTING: ["test", "Testing", "holdout", "hold-out", "Held out", "HoldOut", "test_1", "ts"],
    "": ["HGG", "contest", "new", "t1", "Oslo", "attested", "", "7"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_known_by_the_words_that_data_sets_use(kind: str) -> None:
    assert {name: kind_of(name) for name in KINDS[kind]} == dict.fromkeys(KINDS[kind], kind)


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "N/A", "None", "NULL", "-", "", " ", "<NA>"])
def test_words_for_missing_say_nothing(word: str) -> None:
    assert stated(word) == "" and stated(None) == "" and stated(float("nan")) == ""
    assert stated("nana") == "nana" and stated("0") == "0"


def test_spellings_of_one_value_are_one_and_others_are_not() -> None:
    assert len(set(map(spelling, ("No Tumor", "no_tumor", "NO-TUMOR", "no  tumor ")))) == 1
    assert spelling("0") == spelling("0.0") != spelling("0.5")
    assert spelling("-1") != spelling("1") and spelling("p01") != spelling("p1")


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([value, len(path.name)]).integers(0, 255, (12, 12))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def volume(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = (np.arange(512).reshape(8, 8, 8) + value) % 2
    nib.save(nib.Nifti1Image(array.astype(np.uint8), np.eye(4)), path)
    return path


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def classes(root: Path, *ignored: str) -> Cohort:
    task = Classification(ignored) if ignored else Classification()
    return open_cohort(task, root, Recorder(quiet=True))


def many(folder: Path, names: str) -> None:
    for number, name in enumerate(names.split()):
        picture(folder / name, number)


# --- tables ---------------------------------------------------------------------------------------


def test_missing_classes_and_patients_are_neither_a_class_nor_one_patient(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png d.png")
    rows = ["1,good,NA,a.png", "2,bad,p,b.png", "3,nan,p,c.png", "4,good,NULL,d.png"]
    cohort = classes(write(tmp_path / "t.csv", "case,class,patient,image", *rows))
    found = {case.id: (case.class_name, case.patient) for case in cohort.cases}
    assert found == {"1": ("good", "1"), "2": ("bad", "p"), "4": ("good", "4")}
    assert any("in column patient NA, NULL means: not known" in note for note in cohort.notes)


def test_a_warning_tells_classes_that_were_read_as_one(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png d.png")
    rows = ["1,Glioma,a.png", "2,glioma ,b.png", "3,Glioma,c.png", "4,none at all,d.png"]
    reporter = Recorder(quiet=True)
    path = write(tmp_path / "t.csv", "case,class,image", *rows)
    cohort = open_cohort(Classification(), path, reporter)
    assert {case.class_name for case in cohort.cases} == {"Glioma", "none at all"}
    assert reporter.warnings == ["classes spelt in several ways, read as one: 'glioma' as Glioma"]


@pytest.mark.parametrize("column", ["patient_id", "Subject", "SubjectID", "participant_id", "MRN"])
def test_known_names_of_the_patient_are_taken_and_said(tmp_path: Path, column: str) -> None:
    many(tmp_path, "a.png b.png c.png")
    rows = ["1,p,x,a.png", "2,p,y,b.png", "3,q,x,c.png"]
    cohort = classes(write(tmp_path / "t.csv", f"case,{column},class,image", *rows))
    assert [case.patient for case in cohort.cases] == ["p", "p", "q"]
    assert f"column {column.lower()} is taken as patient" in cohort.notes


def test_hospital_and_split_are_taken_and_said(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    rows = ["1,Oslo,train,x,a.png", "2,Graz,val,y,b.png", "3,Graz,train,y,c.png"]
    cohort = classes(write(tmp_path / "t.csv", "case,hospital,split,class,image", *rows))
    assert [(case.id, case.site) for case in cohort.cases] == [("1", "Oslo"), ("3", "Graz")]
    assert "column split is taken as part" in cohort.notes


LOOKS_LIKE = {
    "patient": ("patientcode2", ("p", "p", "q")),
    "record": ("anon_mrn", ("m1", "m1", "m2")),
    "site": ("hospital_of_scan", ("Oslo", "Graz", "Graz")),
    "part": ("purpose", ("train", "test", "train")),
    "flag": ("is_test", ("0", "1", "0")),
    "numbers": ("split", ("1", "2", "1")),
}


@pytest.mark.parametrize("column,cells", LOOKS_LIKE.values(), ids=LOOKS_LIKE)
def test_a_column_that_looks_like_a_fact_is_used_or_ignored(
    tmp_path: Path, column: str, cells: tuple[str, ...]
) -> None:
    many(tmp_path, "a.png b.png c.png")
    rows = [f"{n},{cell},{'xyx'[n]},{'abc'[n]}.png" for n, cell in enumerate(cells)]
    path = write(tmp_path / "t.csv", f"case,{column},class,image", *rows)
    with pytest.raises(DataError, match=f"column {column} looks like .*--ignore-column {column}"):
        classes(path)
    assert len(classes(path, column.upper()).cases) == 3
    with pytest.raises(DataError, match="--ignore-column scanner: no such column"):
        classes(path, "scanner")


def test_facts_of_patients_that_do_not_name_them_are_no_patients(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    header = "case,patient,PatientAge,subject_sex,tumor_site,test_result,class,image"
    rows = [f"{n},p{n},{60 + n},f,frontal,{n},{'xyx'[n]},{'abc'[n]}.png" for n in range(3)]
    assert len(classes(write(tmp_path / "t.csv", header, *rows)).cases) == 3


def test_messenger_rna_is_no_record_number(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    header = "case,mRNA_cluster,class,image"
    rows = [f"{n},{n},{'xyx'[n]},{'abc'[n]}.png" for n in range(3)]
    assert len(classes(write(tmp_path / "t.csv", header, *rows)).cases) == 3


def test_a_column_of_yes_and_no_names_no_patients(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    header = "case,volunteer,n_subjects,class,image"
    rows = ["1,yes,7,x,a.png", "2,no,7,y,b.png", "3,yes,7,x,c.png"]
    cohort = classes(write(tmp_path / "t.csv", header, *rows))
    assert len({case.patient for case in cohort.cases}) == 3
    path = write(tmp_path / "u.csv", header.replace("volunteer", "subject"), *rows)
    with pytest.raises(DataError, match="column subject looks like patient"):
        classes(path)


def test_where_the_patient_is_named_other_facts_of_patients_are_left_out(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    header = "case,patient,patient_smoker,subject_label,class,image"
    rows = ["1,p,yes,sick,x,a.png", "2,p,yes,sick,y,b.png", "3,q,no,well,x,c.png"]
    cohort = classes(write(tmp_path / "t.csv", header, *rows))
    assert [case.patient for case in cohort.cases] == ["p", "p", "q"]


def test_two_columns_of_patients_that_differ_are_refused(tmp_path: Path) -> None:
    many(tmp_path, "a.png b.png c.png")
    header = "case,patient,subject_id,class,image"
    same = write(tmp_path / "t.csv", header, "1,p,7,x,a.png", "2,p,7,y,b.png", "3,q,8,x,c.png")
    assert {case.patient for case in classes(same).cases} == {"p", "q"}
    other = write(tmp_path / "u.csv", header, "1,p,7,x,a.png", "2,p,8,y,b.png", "3,q,8,x,c.png")
    with pytest.raises(DataError, match="patient and subject_id could both say the patient"):
        classes(other)


def test_masks_of_a_table_are_no_channel(tmp_path: Path) -> None:
    for name in ("a", "b", "s"):
        volume(tmp_path / f"{name}.nii.gz", ord(name))
    rows = ["1,a.nii.gz,s.nii.gz", "2,b.nii.gz,s.nii.gz"]
    task = Segmentation().bind(write(tmp_path / "t.csv", "case,t1,tumour_mask", *rows))
    assert task.modalities == ("t1",) and "column tumour_mask is taken as label" in task.notes
    path = write(tmp_path / "u.csv", "case,t1,label,tumour_mask", *(f"{r},s.nii.gz" for r in rows))
    with pytest.raises(DataError, match="tumour_mask looks like masks"):
        Segmentation().bind(path)


def test_ignored_columns_are_for_tasks_that_read_tables(tmp_path: Path) -> None:
    from medtl.data.task import Task

    with pytest.raises(ConfigError, match="reads no table"):

        class Other(Task):
            name = "other"

        Other().without_columns(["x"])


def test_another_encoding_says_how_to_save_it(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = tmp_path / "t.csv"
    path.write_bytes("case,class,patient,image\n1,x,Müller,a.png\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2 is not UTF-8 text \(byte 0xfc\); save it as UTF"):
        read_table(path, classes=True)


NAMES = st.text(st.sampled_from("abcäöß名ж "), min_size=1, max_size=6).map(str.strip)
PLAIN = NAMES.filter(lambda text: stated(text) == text and not kind_of(text))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["benign", "grade 2", "grün"]),
            PLAIN | st.sampled_from(["NA", "nan", "", "None"]),
            st.sampled_from(["train", "valid", "Test ", "hold-out", "dev"]),
        ),
        min_size=1,
        max_size=6,
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"]),
    mark=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    column=st.sampled_from(["patient", "Patient ID", "subject"]),
)
def test_tables_come_back_as_written_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    encoding: str,
    mark: str,
    end: str,
    column: str,
) -> None:
    folder = tmp_path_factory.mktemp("table")
    picture(folder / "a.png")
    path = folder / "t.csv"
    try:
        with path.open("w", encoding=encoding, newline="") as file:
            lines = csv.writer(file, delimiter=mark, lineterminator=end)
            lines.writerow(("case", "class", column, "part", "image"))
            lines.writerows((f"c{n}", *row, "a.png") for n, row in enumerate(rows))
    except UnicodeEncodeError:
        return
    try:
        listing = read_table(path, classes=True)
    except DataError as error:
        assert encoding in ("latin-1", "cp1252") and "save it as UTF-8" in str(error)
        with pytest.raises(UnicodeDecodeError):
            path.read_bytes().decode()
        return
    wanted = [
        (f"c{n}", name, "" if who in ("NA", "nan", "", "None") else who, part.strip())
        for n, (name, who, part) in enumerate(rows)
    ]
    assert [(e.id, e.class_name, e.patient, e.part) for e in listing.entries] == wanted


# --- folders --------------------------------------------------------------------------------------


def test_valid_is_neither_lost_nor_trained_on(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        for name in ("good", "bad"):
            picture(tmp_path / part / name / f"{part}.png")
    cohort = classes(tmp_path)
    assert [case.part for case in cohort.cases] == ["training", "training"]
    assert "4 cases of part testing and validation are not trained on" in cohort.notes
    names = Classification().bind(tmp_path).names
    assert len(Classification().bind(tmp_path, names=names).cases(tmp_path).cases) == 6


def test_duplicates_in_two_parts_or_of_two_patients_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("good", "bad"):
            for n in range(3):
                path = tmp_path / part / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (60, 60), np.uint8)).save(path)
    source = Image.open(tmp_path / "train/good/0.png")
    source.resize((120, 120)).save(tmp_path / "test/good/1.png")
    source.save(tmp_path / "train/good/2.png", compress_level=0)
    reporter = Recorder(quiet=True)
    open_cohort(Classification(), tmp_path, reporter)
    assert [text.partition(": ")[2].partition(")")[0] for text in reporter.warnings[:1]] == [
        "test_good_1.png = train_good_0.png"
    ]
    assert "(train_good_2.png = train_good_0.png)" in reporter.warnings[1]


def test_parts_inside_of_classes_are_kept_apart(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        for part in ("train", "test"):
            picture(tmp_path / name / part / "x.png")
    assert {case.id for case in classes(tmp_path).cases} == {"good_train_x.png", "bad_train_x.png"}


def test_parts_are_no_classes(tmp_path: Path) -> None:
    many(tmp_path / "train", "a.png b.png")
    many(tmp_path / "valid", "c.png d.png")
    with pytest.raises(DataError, match="are parts, not classes"):
        classes(tmp_path)


def test_images_beside_the_folders_are_refused(tmp_path: Path) -> None:
    many(tmp_path / "good", "a.png")
    many(tmp_path / "bad", "b.png")
    picture(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c.png: lies beside the folders of classes"):
        classes(tmp_path)


def test_linked_folders_are_entered(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        picture(tmp_path / "store" / name / "a.png")
        picture(tmp_path / "data" / name / "own" / "b.png")
        os.symlink(tmp_path / "store" / name, tmp_path / "data" / name / "linked")
    found = {case.id for case in classes(tmp_path / "data").cases}
    assert found == {f"{c}_{f}" for c in ("good", "bad") for f in ("linked_a.png", "own_b.png")}


def test_circles_and_links_to_nowhere_are_refused(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        picture(tmp_path / name / "a.png")
    circle = tmp_path / "good" / "again"
    circle.symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"again: a link leads to .* once more"):
        classes(tmp_path)
    circle.unlink()
    (tmp_path / "bad" / "lost.png").symlink_to("../.git/annex/x")
    with pytest.raises(DataError, match=r"1 link to nowhere \(lost.png -> ../.git/annex/x\)"):
        classes(tmp_path)


def test_masks_beside_pictures_are_no_pictures(tmp_path: Path) -> None:
    many(tmp_path / "good", "g_1.png g_1_mask.png g_2.png g_2_mask_1.png g_2_mask_2.png")
    many(tmp_path / "bad", "b.png b-seg.png c.png mask_c.png")
    many(tmp_path / "bad" / "labels", "b.png")
    cohort = classes(tmp_path)
    assert {case.id for case in cohort.cases} == {
        "good_g_1.png",
        "good_g_2.png",
        "bad_b.png",
        "bad_c.png",
    }
    assert any(note.startswith("warning: 6 masks of images") for note in cohort.notes)
    picture(tmp_path / "bad" / "d_mask.png")
    with pytest.raises(DataError, match=r"d_mask.png: is called a mask, and has no image"):
        classes(tmp_path)


def test_classes_called_masks_are_classes(tmp_path: Path) -> None:
    many(tmp_path / "with_mask", "with_mask_1.png with_mask_2.png")
    many(tmp_path / "without_mask", "without_mask_1.png without_mask_2.png")
    assert len(classes(tmp_path).cases) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
def test_pipes_are_refused(tmp_path: Path) -> None:
    many(tmp_path / "good", "a.png")
    (tmp_path / "bad").mkdir()
    os.mkfifo(tmp_path / "bad" / "b.png")
    with pytest.raises(DataError, match=r"b.png: is a pipe"):
        classes(tmp_path)


def test_dicom_is_called_dicom(tmp_path: Path) -> None:
    (tmp_path / "IM001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    with pytest.raises(DataError, match=r"no series is an image; not read: .*IM001: has no DICOM"):
        Segmentation().bind(tmp_path)
    with pytest.raises(DataError, match="is DICOM, and nothing says which series are needed"):
        classes(tmp_path)


# --- nnU-Net --------------------------------------------------------------------------------------


def test_version_1_says_which_cases_and_labels(tmp_path: Path) -> None:
    for case in "abc":
        volume(tmp_path / "imagesTr" / f"{case}_0000.nii.gz")
        for folder in ("labelsTr", "labelsTr2"):
            volume(tmp_path / folder / f"{case}.nii.gz")
    listed = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr2/{c}.nii.gz"} for c in "ab"]
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "x"}, "training": listed}
    content["test"] = ["./imagesTs/d.nii.gz"]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = Segmentation().bind(tmp_path).cases(tmp_path)
    assert "no folder imagesTs: 1 listed test cases are left out" in cohort.notes
    assert [(c.id, c.target.path.parent.name) for c in cohort.cases if c.target] == [
        ("a", "labelsTr2"),
        ("b", "labelsTr2"),
    ]
    (tmp_path / "imagesTr" / "a_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"training\[0\]: no a_0000.nii.gz"):
        Segmentation().bind(tmp_path)


def test_every_ending_of_nifti_is_found(tmp_path: Path) -> None:
    volume(tmp_path / "imagesTr" / "a_0000.nii.gz").rename(tmp_path / "imagesTr/a_0000.NII.GZ")
    volume(tmp_path / "imagesTr" / "b_0000.nii")
    for name in "ab":
        volume(tmp_path / "labelsTr" / f"{name}.nii.gz")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert [c.id for c in Segmentation().bind(tmp_path).cases(tmp_path).cases] == ["a", "b"]


def test_no_study_vanishes_from_a_folder_to_predict(tmp_path: Path) -> None:
    volume(tmp_path / "a_0000.nii.gz")
    volume(tmp_path / "x.nii.gz").rename(tmp_path / "b_0000.NII.GZ")
    assert [entry.id for entry in read_flat(tmp_path).entries] == ["a", "b"]
    assert not read_flat(tmp_path).notes
    (tmp_path / "notes.txt").write_text("seen")
    (tmp_path / "d_0000.mha").write_bytes(b"0")
    volume(tmp_path / "later" / "e_0000.nii.gz")
    (note,) = read_flat(tmp_path).notes
    only = "only its own NIfTI files are read, not d_0000.mha, later/"
    assert note == f"warning: {tmp_path}: {only}"
    (tmp_path / "c_0000.nii.gz").symlink_to("gone")
    with pytest.raises(DataError, match="1 link to nowhere"):
        read_flat(tmp_path)


@pytest.mark.parametrize("ending", ["**.nii.gz", "../.nii.gz", ".mha"])
def test_an_ending_is_an_ending(tmp_path: Path, ending: str) -> None:
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "file_ending": ending}))
    with pytest.raises(DataError, match="file_ending"):
        Segmentation().bind(tmp_path)
