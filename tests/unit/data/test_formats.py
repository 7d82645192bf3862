"""Lists of cases: what the four layouts say, and one clear line for each way they can be wrong.

Axes: I J K voxels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from terminal import Terminal

from medtl.data.case import Cohort
from medtl.data.formats.label_names import dataset_regions, parse_labels
from medtl.data.tasks.segmentation import OwnData, Segmentation
from medtl.errors import ConfigError, DataError

WHERE = Path("dataset.json")
V2 = {
    "channel_names": {"0": "FLAIR", "1": "T1w"},
    "labels": {"background": 0, "oedema": 1, "core": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def volume(path: Path, values: int = 3, shape: tuple[int, ...] = (8, 9, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.arange(np.prod(shape)).reshape(shape) % values
    nib.save(nib.Nifti1Image(array.astype(np.uint8), np.eye(4)), path)
    return path


def raw(folder: Path, content: Any = V2) -> Path:
    """A small data set in nnU-Net's raw layout."""
    for case in ("a", "b"):
        for channel in (0, 1):
            volume(folder / "imagesTr" / f"{case}_{channel:04}.nii.gz", 50)
        volume(folder / "labelsTr" / f"{case}.nii.gz")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset.json").write_text(text)
    return folder


def read(root: Path, labels: str | None = None, **options: Any) -> Cohort:
    task = bind(root, labels)
    return task.cases(root, **{"required": task.modalities, **options})


def bind(root: Path, labels: str | None = None) -> OwnData:
    return Segmentation().bind(root, labels)


# --- layouts --------------------------------------------------------------------------------------


def test_nnunet_raw_is_read_with_its_names(tmp_path: Path) -> None:
    task = bind(raw(tmp_path))
    assert task.modalities == ("flair", "t1") and task.regions == ("oedema", "core")
    assert task.exclusive and not task.nested
    first, second = read(tmp_path).cases
    assert (first.id, first.patient, second.id) == ("a", "a", "b")
    assert first.images["t1"].path.name == "a_0001.nii.gz"
    assert first.regions == {"oedema": (1,), "core": (2,)} and first.labels == (0, 1, 2)


def test_version_1_names_are_read_too(tmp_path: Path) -> None:
    content = {
        "modality": {"0": "CT", "1": "PET (SUV)"},
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    task = bind(raw(tmp_path, content))
    assert task.modalities == ("ct", "pet-suv") and task.regions == ("liver", "tumour")
    (case,) = read(tmp_path).cases  # b is not listed
    assert case.id == "a"
    told = "warning: in imagesTr and not listed in dataset.json, left out: b"
    assert told in read(tmp_path).notes


def test_nnunets_own_list_that_leaves_cases_out_is_warned_of(tmp_path: Path) -> None:
    one = {
        "images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"],
        "label": "labelsTr/a.nii.gz",
    }
    cohort = read(raw(tmp_path, {**V2, "dataset": {"a": one}}))
    assert [case.id for case in cohort.cases] == ["a"]
    assert "warning: in imagesTr and not listed in dataset.json, left out: b" in cohort.notes
    assert "dataset.json says 2 training cases; there are 1" in cohort.notes
    renamed = {
        "p7": one,
        "p8": {
            "images": [f"imagesTr/b_000{n}.nii.gz" for n in (0, 1)],
            "label": "labelsTr/b.nii.gz",
        },
    }
    whole = read(raw(tmp_path, {**V2, "dataset": renamed}))
    assert [case.id for case in whole.cases] == ["p7", "p8"]
    assert not any("not listed" in note or "says" in note for note in whole.notes)


def test_nnunets_own_list_of_files_is_read(tmp_path: Path) -> None:
    image, label = volume(tmp_path / "x" / "i.nii.gz"), volume(tmp_path / "y" / "s.nii.gz")
    one = {"images": [str(image), "x/i.nii.gz"], "label": str(label)}
    (tmp_path / "dataset.json").write_text(json.dumps({**V2, "dataset": {"p7": one}}))
    (case,) = read(tmp_path).cases
    assert case.id == "p7" and case.target is not None and case.target.path == label


def test_msd_reads_channels_of_one_file(tmp_path: Path) -> None:
    volume(tmp_path / "imagesTr" / "x_1.nii.gz", 50, (8, 9, 10, 2))
    volume(tmp_path / "labelsTr" / "x_1.nii.gz")
    volume(tmp_path / "imagesTs" / "x_2.nii.gz", 50, (8, 9, 10, 2))
    content = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": "./imagesTr/x_1.nii.gz", "label": "./labelsTr/x_1.nii.gz"}],
        "test": ["./imagesTs/x_2.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = read(tmp_path)
    (case,) = cohort.cases
    assert case.id == "x_1" and case.images["adc"].channel == 1
    assert "1 cases of part test are not trained on" in cohort.notes
    names = bind(tmp_path).names
    everything = Segmentation().bind(tmp_path, names=names).cases(tmp_path, need_target=False)
    assert [c.id for c in everything.cases] == ["x_1", "x_2"]


def test_datalist_names_cases_by_what_their_files_share(tmp_path: Path) -> None:
    training = []
    for name, words in (("p1", ("flair", "t1")), ("p-2-000", ("t1n", "t1c"))):
        images = [str(volume(tmp_path / f"{name}_{word}.nii.gz")) for word in words]
        label = volume(tmp_path / f"{name}_seg.nii.gz").name
        training.append({"image": images, "label": label, "fold": len(training)})
    (tmp_path / "list.json").write_text(json.dumps({"training": training}))
    cohort = read(tmp_path / "list.json")
    assert [(c.id, c.fold) for c in cohort.cases] == [("p-2-000", 1), ("p1", 0)]
    assert list(cohort.cases[0].images) == ["channel0", "channel1"]
    assert "names no channels: called channel0, channel1" in " ".join(cohort.notes)
    assert "names no labels: called label1, label2" in " ".join(cohort.notes)


def test_repeated_file_names_are_told_apart_by_folder(tmp_path: Path) -> None:
    training = [
        {"image": str(volume(tmp_path / p / "image.nii.gz")), "label": f"{p}/labels.nii.gz"}
        for p in ("p1", "p2")
    ]
    for p in ("p1", "p2"):
        volume(tmp_path / p / "labels.nii.gz")
    (tmp_path / "list.json").write_text(json.dumps({"training": training}))
    assert [case.id for case in read(tmp_path).cases] == ["p1", "p2"]


def table(tmp_path: Path, text: str) -> Path:
    for name in ("a", "b", "s"):
        volume(tmp_path / f"{name}.nii.gz")
    path = tmp_path / "cases.csv"
    path.write_text(text)
    return path


def test_table_honours_patients_sites_and_parts(tmp_path: Path) -> None:
    rows = "Case;Patient;Site;Part;Age;T1;seg\n"
    rows += "x;p;Oslo;new;60;a.nii.gz;s.nii.gz\ny;p;Graz;;61;b.nii.gz;s.nii.gz\n"
    cohort = read(table(tmp_path, rows))
    x, y = cohort.cases
    assert (x.patient, x.site, x.part, y.patient, y.site) == ("p", "Oslo", "new", "p", "Graz")
    assert list(x.images) == ["t1"]
    assert "columns without image paths, left out: age" in cohort.notes
    assert not any("patient leakage" in note or "no patients" in note for note in cohort.notes)


def test_a_label_file_is_no_image(tmp_path: Path) -> None:
    path = table(
        tmp_path, "Case;T1;T2;seg\nx;a.nii.gz;b.nii.gz;s.nii.gz\ny;a.nii.gz;./s.nii.gz;s.nii.gz\n"
    )
    with pytest.raises(
        DataError, match=r"line 3: .*s\.nii\.gz is given as an image and as its labels"
    ):
        read(path)


def test_one_label_file_of_two_cases_is_warned_of(tmp_path: Path) -> None:
    cohort = read(table(tmp_path, "Case;T1;seg\nx;a.nii.gz;s.nii.gz\ny;b.nii.gz;s.nii.gz\n"))
    assert f"warning: 2 cases name one label file, {tmp_path / 's.nii.gz'}: x, y" in cohort.notes


def test_case_that_counts_as_a_patient_is_told(tmp_path: Path) -> None:
    assert any("patient leakage cannot be excluded" in note for note in read(raw(tmp_path)).notes)


def test_synthetic_data_stay_synthetic(tmp_path: Path) -> None:
    cohort = read(raw(tmp_path, {**V2, "synthetic": True}))
    assert cohort.synthetic and "synthetic phantom" in cohort.notes[0]


def test_labels_without_images_and_absent_folders_are_told(tmp_path: Path) -> None:
    raw(tmp_path, {**V2, "numTraining": 7, "test": ["imagesTs/c.nii.gz"]})
    volume(tmp_path / "labelsTr" / "z.nii.gz")
    notes = read(tmp_path).notes
    assert "warning: labelsTr without images, left out: z" in notes
    assert "no folder imagesTs: 1 listed test cases are left out" in notes
    assert "dataset.json says 7 training cases; there are 2" in notes


@pytest.mark.parametrize(
    ("head", "cells", "told"),
    [
        ("subject", ("p", "q"), "cases are called by subject"),
        ("subject,session", ("p,1", "p,2"), "cases are called by subject and session"),
        (",subject", ("0,p", "1,q"), "cases are called by subject"),
    ],
)
def test_cases_without_a_name_are_called_by_their_patient(tmp_path, head, cells, told) -> None:
    volume(tmp_path / "i.nii.gz", 50)
    volume(tmp_path / "s.nii.gz", 2)
    uri = (tmp_path / "i.nii.gz").as_uri()
    rows = [
        f"{own},{image},s.nii.gz,0" for own, image in zip(cells, (uri, "i.nii.gz"), strict=True)
    ]
    path = table(tmp_path, "\n".join([f"{head},t1,seg,fold", *rows]) + "\n")
    cohort = read(path, "a=1,b=2")
    assert told in cohort.notes and len(cohort.cases) == 2
    assert [case.fold for case in cohort.cases] == [0, 0]


# --- labels ---------------------------------------------------------------------------------------


def test_regions_that_hold_each_other_are_nested() -> None:
    found = dataset_regions(
        {
            "labels": {"background": 0, "ET": [3], "WT": [1, 2, 3], "TC": [2, 3]},
            "regions_class_order": [3, 1, 2],
        },
        WHERE,
    )
    assert found is not None and found.nested and not found.exclusive
    assert found.values == {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}


def test_class_order_says_which_value_stands_for_a_region() -> None:
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumour": 2}
    found = dataset_regions({"labels": labels, "regions_class_order": [1, 3, 2]}, WHERE)
    assert found is not None and [values[0] for values in found.values.values()] == [1, 3, 2]


def test_labels_on_the_command_line_name_regions() -> None:
    found = parse_labels("ET=4, WT=1+2+4")
    assert found.values == {"WT": (1, 2, 4), "ET": (4,)} and found.labels == (0, 1, 2, 4)


BAD_LABELS = {
    "ignore of another": ({"background": 0, "a": 1, "ignore": 1}, "value 1 is 'a', and marks"),
    "ignored background": ({"background": 0, "a": 1, "ignore": 0}, "holds 0|value 0 is"),
    "zero": ({"background": 0, "a": [0, 1]}, "holds 0"),
    "text": ({"background": 0, "a": "one"}, "'a'"),
    "negative": ({"background": 0, "a": -1}, "'a'"),
    "nothing": ({"background": 0}, "no label but background"),
    "odd background": (
        {"background": 1, "a": 0, "b": 2},
        "background is 1, but must be 0 alone",
    ),
    "wide background": ({"background": [0, 1], "b": 2}, "background is 0, 1, but must be 0 alone"),
    "list": (["background", "a"], "labels"),
    "same name": ({"0": "background", "1": "a", "2": "a"}, "'a'"),
    "escape": ({"background": 0, "a\u001b[31m": 1}, "cannot be the name"),
}


@pytest.mark.parametrize("labels,word", BAD_LABELS.values(), ids=BAD_LABELS)
def test_odd_labels_are_refused(labels: Any, word: str) -> None:
    with pytest.raises(DataError, match=rf"^dataset\.json: .*{word}"):
        dataset_regions({"labels": labels}, WHERE)


@pytest.mark.parametrize("text", ["WT", "WT=", "WT=a", "WT=1,WT=2", "=1", "WT=1+1"])
def test_odd_labels_on_the_command_line_are_refused(text: str) -> None:
    with pytest.raises((ConfigError, DataError), match="--labels"):
        parse_labels(text)


# --- bad input ------------------------------------------------------------------------------------


def nnunet(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        change(raw(folder))
        return folder

    return make


def content(**changes: Any) -> Callable[[Path], Path]:
    kept = {key: value for key, value in {**V2, **changes}.items() if value is not None}
    return lambda folder: raw(folder, kept)


def listed(*entries: Any, name: str = "list.json", **more: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        volume(folder / "a.nii.gz")
        volume(folder / "packed.nii.gz", shape=(8, 9, 10, 3))
        (folder / name).write_text(json.dumps({"training": list(entries), **more}))
        return folder / name

    return make


def tabled(text: str) -> Callable[[Path], Path]:
    return lambda folder: table(folder, text)


def numbered(folder: Path) -> list[Path]:
    """The images of the first channel alone; the others are removed."""
    for path in folder.glob("imagesTr/*_0001.nii.gz"):
        path.unlink()
    return sorted(folder.glob("imagesTr/*_0000.nii.gz"))


ONE = {"image": "a.nii.gz", "label": "a.nii.gz"}
BAD = {
    "missing channel": (
        nnunet(lambda f: (f / "imagesTr/b_0001.nii.gz").unlink()),
        "imagesTr: b has no t1 image; expected b_0001.nii.gz",
    ),
    "channel too many": (
        nnunet(lambda f: volume(f / "imagesTr/b_0002.nii.gz")),
        "b_0002.nii.gz: it is channel 2, counted from 0, but",
    ),
    "packed channels": (
        listed({**ONE, "image": "packed.nii.gz"}, modality=["FLAIR", "T1"]),
        "packed.nii.gz: it holds 3 channels, but",
    ),
    "unknown value": (
        nnunet(lambda f: volume(f / "labelsTr/b.nii.gz", 6)),
        "labelsTr/b.nii.gz: label values 3, 4, 5 are not among 0, 1",
    ),
    "not JSON": (lambda f: raw(f, "{'a': 1}"), "dataset.json: is not JSON"),
    "deep JSON": (lambda f: raw(f, "[" * 100_000), "dataset.json: is not JSON"),
    "JSON list": (lambda f: raw(f, "[1]"), "dataset.json: must hold an object"),
    "no labels": (content(labels=None), "dataset.json: names no labels"),
    "no channels": (content(channel_names=None), "dataset.json: its channels must be named"),
    "channels from 1": (content(channel_names={"1": "a", "2": "b"}), "named from 0 on"),
    "same channel": (content(channel_names={"0": "T1", "1": "T1w"}), "2 of its channels are"),
    "numbers left out": (
        nnunet(lambda f: [p.rename(p.with_name(p.name[0] + ".nii.gz")) for p in numbered(f)]),
        "a.nii.gz lacks a channel number, as in a_0000.nii.gz",
    ),
    "not NIfTI": (
        nnunet(lambda f: [p.rename(p.with_name(p.name[:6] + ".mha")) for p in numbered(f)]),
        "a_0000.mha is not .nii.gz: convert the images first",
    ),
    "channel twice": (
        nnunet(lambda f: volume(f / "imagesTr/a_0000.nii", 50)),
        "is the same channel; keep one of them",
    ),
    "label twice": (
        nnunet(lambda f: volume(f / "labelsTr/a.nii")),
        "is of the same case; keep one of them",
    ),
    "both endings": (
        lambda f: (volume(f / "a_0000.nii"), volume(f / "b_0000.nii.gz").parent)[1],
        "holds .nii and .nii.gz files; keep one of the two",
    ),
    "some without numbers": (
        lambda f: (volume(f / "a_0000.nii.gz"), volume(f / "b.nii.gz").parent)[1],
        "b.nii.gz: lacks a channel number, as in CASE_0000.nii.gz",
    ),
    "files without images": (content(dataset={"p": {"label": "x"}}), 'must be {"images": [...]'),
    "odd item of version 1": (
        content(training=[{"image": "imagesTr/a.nii.gz"}, {"label": "labelsTr/b.nii.gz"}]),
        'training[1]: must be {"image": ...',
    ),
    "other files": (content(file_ending=".png"), "file_ending '.png'"),
    "MSD without labels": (
        listed(ONE, name="dataset.json", modality={"0": "CT"}),
        'dataset.json: has no "labels"',
    ),
    "no label column": (tabled("case,t1\nx,a.nii.gz\n"), "cases.csv: has no column label, seg"),
    "no case column": (tabled("t1,seg\na.nii.gz,s.nii.gz\n"), "no column case or id"),
    "no image column": (tabled("case,seg\nx,s.nii.gz\n"), "no column holds paths of images"),
    "two label columns": (
        tabled("case,t1,seg,label\nx,a.nii.gz,s.nii.gz,s.nii.gz\n"),
        "both seg and label could be meant",
    ),
    "DICOM in a table": (tabled("case,t1,seg\nx,a.dcm,s.nii.gz\n"), "DICOM is converted to NIfTI"),
    "column twice": (tabled("case,t1,t1,seg\nx,a,b,s\n"), "every column needs a name of its own"),
    "rows that share their name": (
        tabled("subject,t1,seg\np,a.nii.gz,s.nii.gz\np,b.nii.gz,s.nii.gz\n"),
        "has no column case or id (rows share subject)",
    ),
    "odd fold in a table": (
        tabled(f"case,t1,seg,fold\nx,a.nii.gz,s.nii.gz,{'y' * 30}\n"),
        "line 2: fold 'yyyyyyyyyyyyyyyyyyyy...' must be a number",
    ),
    "path is a number": (listed({**ONE, "image": "a.nii.gz", "label": 5}), "5 is not the path"),
    "path is an address": (listed({**ONE, "image": "http://x/a.nii.gz"}), "download the file"),
    "path of another system": (listed({**ONE, "image": r"C:\a.nii.gz"}), "of another system"),
    "row too short": (tabled("case,t1,seg\nx,a.nii.gz\n"), "cases.csv line 2: has 2 cells"),
    "endless header": (
        tabled(f"case,t1,{'seg' * 50_000}\nx,a.nii.gz,s.nii.gz\n"),
        "cannot be read as a table (field larger than",
    ),
    "empty table": (tabled("case,t1,seg\n"), "cases.csv: lists no cases"),
    "table path missing": (
        tabled("case,t1,seg\nx,a.nii.gz,s.nii.gz\ny,gone.nii.gz,s.nii.gz\n"),
        "gone.nii.gz: no such file",
    ),
    "list path missing": (listed({**ONE, "image": "gone.nii.gz"}), "gone.nii.gz: no such file"),
    "list path is a device": (listed({**ONE, "image": "/dev/zero"}), "/dev/zero: no such file"),
    "list without image": (listed({"label": "a.nii.gz"}), "list.json: training[0]"),
    "odd fold": (listed({**ONE, "fold": "x"}), "fold 'x' must be a number"),
    "duplicate in list": (listed(ONE, ONE), "is there twice"),
    "duplicate in table": (
        tabled("id,t1,seg\nx,a.nii.gz,s.nii.gz\nx,b.nii.gz,s.nii.gz\n"),
        "cases.csv line 3: case x is there twice",
    ),
    "id leads out": (listed({**ONE, "id": "../../x"}), "'../../x' cannot be the name of a case"),
    "no dataset.json": (
        nnunet(lambda f: (f / "dataset.json").unlink()),
        "has imagesTr and no dataset.json",
    ),
    "empty folder": (lambda f: f, "no cases found; understood: nnU-Net raw"),
    "no such folder": (lambda f: f / "gone", "gone: no such file or folder"),
    "two lists": (
        lambda f: (listed(ONE)(f), tabled("case\n")(f))[0].parent,
        "cases.csv, list.json",
    ),
}


@pytest.mark.parametrize("make,word", BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    medtl: Terminal,
    make: Callable[[Path], Path],
    word: str,
) -> None:
    (tmp_path / "data").mkdir()
    words = ("-q", "--data", make(tmp_path / "data"), "--out", tmp_path / "run")
    line = medtl.refused("train", "segmentation", *words)
    assert word in line and "data" in line
    assert not (tmp_path / "run").exists()
