"""Converted data sets are read back with the same voxels, places and labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids import write_bids
from dicom_files import OBLIQUE, Scan, write_scan
from numpy.testing import assert_allclose, assert_array_equal
from terminal import Terminal

from medtl import api
from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.formats.written import LAYOUTS, write_cohort
from medtl.data.io.images import read_labels, read_volume
from medtl.data.modality import Modality
from medtl.data.task import bound
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import ConfigError, DataError, RunError
from medtl_brats.task import Brats


def check_same(one: Case, other: Case) -> None:
    """Images, their places and each region of two cases."""
    assert sorted(one.images) == sorted(other.images)
    for name in one.images:
        (a_IJK, a), (b_IJK, b) = read_volume(one.images[name]), read_volume(other.images[name])
        assert_array_equal(a_IJK, b_IJK)
        assert_allclose(a, b, atol=1e-4)
    assert one.target is not None
    assert other.target is not None
    a_IJK, b_IJK = (read_labels(each.target, each.labels)[0] for each in (one, other))  # type: ignore[arg-type]
    assert_array_equal(a_IJK > 0, b_IJK > 0)
    for region in set(one.regions) & set(other.regions):
        masks = (np.isin(a_IJK, one.regions[region]), np.isin(b_IJK, other.regions[region]))
        if "WT" not in one.regions or "WT" not in other.regions or len(other.regions["WT"]) > 1:
            assert_array_equal(*masks)  # in BIDS each region is what no inner one holds


def read_back(root: Path, labels: str | None = None) -> list[Case]:
    path = root / "cases.csv"
    labels = labels or ("WT=1+2+4,TC=1+4,ET=4" if path.is_file() else None)
    root = path if path.is_file() else root
    return list(bound(Segmentation(), root, labels).cases(root).cases)


@pytest.mark.parametrize("to", ["nifti", "nnunet", "bids"])
def test_there_and_back(small_phantom: Callable[..., Path], tmp_path: Path, to: str) -> None:
    phantom = small_phantom(cases=3, size=24, sites=2, seed=0)
    done = api.convert_data(phantom, tmp_path / "out", to=to)
    assert len(done.cases) == 3
    before, after = Brats().cases(phantom).cases, read_back(tmp_path / "out")
    for one, other in zip(before, after, strict=True):
        check_same(one, other)
        if to != "nnunet":
            assert one.site == other.site
    regions = {name: set(values) for name, values in after[0].regions.items()}
    wanted = {
        "nifti": {"WT": {1, 2, 4}, "TC": {1, 4}, "ET": {4}},
        "nnunet": {"WT": {1, 2, 3}, "TC": {1, 3}, "ET": {3}},  # without gaps
        "bids": {"WT": {2}, "TC": {1}, "ET": {4}},  # each value has one name
    }
    assert regions == wanted[to]
    if to == "nnunet":
        content = json.loads((tmp_path / "out" / "dataset.json").read_text())
        assert content["regions_class_order"] == [2, 1, 3]


def test_every_layout_of_every_other(small_phantom: Callable[..., Path], tmp_path: Path) -> None:
    """BIDS -> nnU-Net -> table -> BIDS."""
    first = write_bids(small_phantom(cases=2, size=24, sites=1, seed=0), tmp_path / "bids")
    api.convert_data(first, tmp_path / "nnunet", to="nnunet")
    api.convert_data(tmp_path / "nnunet", tmp_path / "table", to="nifti")
    labels = "core=1,edema=2,enhancing=3"
    table = tmp_path / "table" / "cases.csv"
    api.convert_data(table, tmp_path / "last", to="bids", task="segmentation", labels=labels)
    before, after = (read_back(root) for root in (first, tmp_path / "last"))
    for one, other in zip(before, after, strict=True):
        check_same(one, other)
        assert dict(other.regions) == {"core": (1,), "edema": (2,), "enhancing": (3,)}


@pytest.mark.parametrize("to", ["nifti", "nnunet", "bids"])
def test_a_shape_in_patient_space_stays_where_it_is(tmp_path: Path, to: str) -> None:
    centre = np.array([-8.0, 60.0, 12.0])
    scan = Scan(
        turn=OBLIQUE, values_IJK=np.zeros((48, 56, 20), np.int16), origin=(-20.0, 30.0, -30.0)
    )
    index = np.stack(np.meshgrid(*map(np.arange, scan.values_IJK.shape), indexing="ij"), axis=-1)
    away = np.linalg.norm(index @ scan.steps.T + np.array(scan.origin) - centre, axis=-1)
    scan.values_IJK[...] = np.round(1000 / (1 + np.exp((away - 9) / 0.8)))
    write_scan(tmp_path / "in", scan.of(SeriesDescription="AX FLAIR"))
    api.convert_data(tmp_path / "in", tmp_path / "out", to=to)
    (path,) = (tmp_path / "out").rglob("*.nii.gz")
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, float)
    mass = values[values > 0]
    place = (np.argwhere(values > 0) * mass[:, None]).sum(0) / mass.sum()
    found = (place @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)
    assert_allclose(found, centre, atol=0.05)
    for each in (tmp_path / "out").rglob("*"):
        content = each.read_bytes() if each.is_file() else b""
        for text in (b"Surname", b"ID-4711", scan.study.encode(), b"19700102"):
            assert text not in content
            assert text.decode() not in each.name


def _image(path: Path, array: np.ndarray, **header: float) -> None:
    image = nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0]))
    image.header.set_slope_inter(header.get("slope", 1), header.get("intercept", 0))
    nibabel.save(image, path)


def test_voxels_keep_their_values(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    wide = random.integers(-(2**31), 2**31 - 1, (8, 9, 10), dtype=np.int32)
    _image(tmp_path / "c1_0000.nii.gz", wide)
    ct = random.integers(0, 4000, (8, 9, 10)).astype(np.uint16)
    scaled = nibabel.Nifti1Image(ct, np.diag([1.0, 1.0, 2.0, 1.0]))
    scaled.header["scl_slope"], scaled.header["scl_inter"] = 1, -1024
    content = bytearray(scaled.to_bytes())
    content[112:120] = np.array([1, -1024], "<f4").tobytes()
    (tmp_path / "c2_0000.nii").write_bytes(content)
    (tmp_path / "in").mkdir()
    for name in ("c1_0000.nii.gz", "c2_0000.nii"):
        (tmp_path / name).rename(tmp_path / "in" / name.replace(".gz", ""))
    first = nibabel.load(tmp_path / "in" / "c2_0000.nii")
    assert np.asarray(first.dataobj).min() < 0
    (tmp_path / "in" / "c1_0000.nii").write_bytes(nibabel.Nifti1Image(wide, np.eye(4)).to_bytes())
    api.convert_data(tmp_path / "in", tmp_path / "out", task="segmentation")
    for name, true in (("c1", wide.astype(np.int64)), ("c2", ct.astype(np.int64) - 1024)):
        (path,) = (tmp_path / "out" / name).glob("*.nii.gz")
        assert_array_equal(np.asarray(nibabel.load(path).dataobj).astype(np.int64), true)


def test_values_to_ignore_stay_so(tmp_path: Path) -> None:
    data = tmp_path / "in"
    for folder in ("imagesTr", "labelsTr"):
        (data / folder).mkdir(parents=True)
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:4], labels[6:] = 1, 2
    for n in range(2):
        _image(
            data / "imagesTr" / f"c{n}_0000.nii.gz",
            np.arange(720, dtype=np.int16).reshape(8, 9, 10),
        )
        _image(data / "labelsTr" / f"c{n}.nii.gz", labels)
    content = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1, "ignore": 2},
               "numTraining": 2, "file_ending": ".nii.gz"}  # fmt: skip
    (data / "dataset.json").write_text(json.dumps(content))
    for to in ("nifti", "nnunet", "bids"):
        done = api.convert_data(data, tmp_path / to, to=to)
        if to == "nifti":
            assert any("--labels a=1,ignore=2" in note for note in done.notes)
        (case, _) = read_back(tmp_path / to, "a=1,ignore=2" if to == "nifti" else None)
        assert dict(case.regions) == {"a": (1,)}
        assert case.ignored == (2,)


def test_label_values_of_two_meanings_are_refused(tmp_path: Path) -> None:
    images = {Modality("t1"): ImageFile(tmp_path / "x.nii")}
    _image(tmp_path / "x.nii", np.ones((4, 4, 4), np.int16))
    one = Case("a", "a", images, ImageFile(tmp_path / "x.nii"), {"ET": (3,)}, (0, 1, 2, 3))
    other = replace(one, id="b", regions={"ET": (4,)}, labels=(0, 1, 2, 4))
    for layout in LAYOUTS.values():
        with pytest.raises(DataError, match="b: its label values have other meanings"):
            write_cohort(
                Cohort(tmp_path, (one, other)), layout, tmp_path / "out", lambda done: None
            )


def test_masks_that_cannot_be_used_are_no_reason_to_drop_them(
    small_phantom: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_bids(small_phantom(cases=1, size=24, sites=1, seed=0), tmp_path / "in")
    shutil.copytree(data / "derivatives" / "lesions", data / "derivatives" / "other")
    with pytest.raises(DataError, match="are both segmentations of one session"):
        api.convert_data(data, tmp_path / "out")


def test_text_of_headers_is_dropped(small_phantom: Callable[..., Path], tmp_path: Path) -> None:
    data = write_bids(small_phantom(cases=1, size=24, sites=1, seed=0), tmp_path / "in")
    for path in data.rglob("*.nii.gz"):
        image = nibabel.load(path)
        image.header["descrip"], image.header["intent_name"] = b"Planted^Name", b"Planted"
        image.header["db_name"], image.header["aux_file"] = b"Planted", b"Planted"
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Planted"))
        nibabel.save(image, path)
    api.convert_data(data, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.nii.gz"):
        assert b"Planted" not in nibabel.load(path).to_bytes()


def test_bad_words(small_phantom: Callable[..., Path], tmp_path: Path, medtl: Terminal) -> None:
    data = small_phantom(cases=1, size=24, sites=1, seed=0)
    with pytest.raises(ConfigError, match="did you mean 'bids'"):
        api.convert_data(data, tmp_path / "out", to="bid")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="is there already"):
        api.convert_data(data, tmp_path / "full")
    with pytest.raises(RunError, match="lies in the input"):
        api.convert_data(data, data / "out")
    with pytest.raises(ConfigError, match="--series names series of DICOM"):
        api.convert_data(data, tmp_path / "out", series=["flair=x"])
    assert not (tmp_path / "out").exists()
    out, _ = medtl("data", "convert", data, tmp_path / "out", "--to", "nnunet", "--json")
    assert json.loads(out)["layout"] == "nnunet"


def test_pictures_are_refused(tmp_path: Path) -> None:
    api.phantom(tmp_path / "in", layout="kaggle-mri", cases=4, size=16)
    with pytest.raises(DataError, match="is a picture; only volumes are converted"):
        api.convert_data(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_quiet_silences_no_warning(tmp_path: Path, medtl: Terminal) -> None:
    scan = Scan()
    write_scan(tmp_path / "in" / "a", scan.of(SeriesDescription="AX FLAIR"))
    write_scan(tmp_path / "in" / "b", Scan().of(SeriesDescription="AX FLAIR"))
    (tmp_path / "in" / "b" / "003.dcm").unlink()
    out, err = medtl("data", "convert", tmp_path / "in", tmp_path / "out", "-q", code=3)
    assert out == ""
    assert "warning: left out: study-" in err
