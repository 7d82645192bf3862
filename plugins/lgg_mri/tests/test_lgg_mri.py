"""The tasks on TCGA slices: names, hospitals, protocols, masks, and what is wrong in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.cli.start import main
from medtl.data.phantom import write_phantom
from medtl.data.phantom.lgg_layout import HOSPITALS, LACKS_T1CE, SLICES
from medtl.errors import ConfigError, DataError
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import picture_plain
from medtl_lgg_mri.task import LggMri, LggMriSegmentation

TINY = ("--width", "4", "--batch-size", "4", "--steps", "2", "--set=patch_size=32,32", "--quiet")
TINY += ("--device", "cpu", "--precision", "fp32", "--workers", "0")
SIZE = 24


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lgg") / "data"
    return write_phantom(root, cases=11, size=SIZE, sites=5, seed=0, layout="lgg-mri")


@pytest.fixture
def few(phantom: Path, tmp_path: Path) -> Path:
    """Two patients, to spoil."""
    root = tmp_path / "few"
    for folder in sorted(p for p in phantom.iterdir() if p.is_dir())[:2]:
        shutil.copytree(folder, root / folder.name)
    return root


def medtl(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["medtl", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_names_say_patient_and_hospital_and_masks_the_class(phantom: Path) -> None:
    cohort = LggMri().cases(phantom)
    assert len(cohort.cases) == 11 * SLICES and cohort.synthetic and not cohort.leak
    assert {case.site for case in cohort.cases} == set(HOSPITALS)
    for case in cohort.cases[:20]:
        folder = case.images["flair"].path.parent.name
        assert case.patient == folder.rpartition("_")[0] and case.site == folder.split("_")[1]
        assert case.mask is not None and case.target is None
        mask = np.asarray(Image.open(case.mask.path))
        assert case.class_name == ("tumor" if mask.any() else "no_tumor")


def test_red_green_and_blue_are_t1_flair_and_t1ce(phantom: Path) -> None:
    case = LggMri().cases(phantom).cases[5]
    found = Preprocessor(("t1", "flair", "t1ce"), (), picture_plain().with_size((SIZE, SIZE)))(
        case
    )["image"]
    stored = np.asarray(Image.open(case.images["t1"].path)).astype(float)
    for n in range(3):
        assert np.corrcoef(found[n, ..., 0].numpy().ravel(), stored[..., n].ravel())[0, 1] > 0.99


def test_flair_that_stands_in_is_told(phantom: Path) -> None:
    (note,) = [n for n in LggMri().cases(phantom).notes if "stands in" in n]
    assert note.startswith("t1ce is missing in TCGA_") and str(9000 + LACKS_T1CE - 1) in note


def test_hospitals_protocol_makes_each_hospital_a_fold(phantom: Path) -> None:
    cohort = LggMri().cases(phantom, protocol="hospitals")
    folds = {case.site: case.fold for case in cohort.cases}
    assert folds == {site: n for n, site in enumerate(HOSPITALS)}
    assert cohort.folds.startswith("0 CS (") and "4 HT (" in cohort.folds


def test_slices_protocol_makes_each_slice_a_patient_and_says_that_it_leaks(phantom: Path) -> None:
    cohort = LggMri().cases(phantom, protocol="slices")
    assert {case.patient for case in cohort.cases} == {case.id for case in cohort.cases}
    assert cohort.leak.startswith("LEAK: slices of a patient lie on both sides")


def test_slices_with_an_empty_modality_are_left_out(few: Path) -> None:
    path = sorted(few.rglob("*_3.tif"))[0]
    pixels = np.asarray(Image.open(path)).copy()
    pixels[..., 2] = 0
    Image.fromarray(pixels).save(path)
    cohort = LggMri().cases(few)
    assert path.stem not in {case.id for case in cohort.cases}
    assert any(f"1 slices with an empty modality left out: {path.stem}" in n for n in cohort.notes)
    assert path.stem in {case.id for case in LggMri().cases(few, required=("t1",)).cases}


def test_mask_of_one_bit_says_the_same(few: Path) -> None:
    before = {case.id: case.class_name for case in LggMri().cases(few).cases}
    for path in few.rglob("*_mask.tif"):
        with Image.open(path) as mask:
            mask.convert("1").save(path)
    assert {case.id: case.class_name for case in LggMri().cases(few).cases} == before


def spoil_name(root: Path) -> None:
    path = next(iter(root.rglob("*_3.tif")))
    path.rename(path.with_name("slice_3.tif"))


def spoil_mask(root: Path) -> None:
    path = next(iter(root.rglob("*_3_mask.tif")))
    Image.fromarray(np.full((SIZE, SIZE), 7, dtype=np.uint8)).save(path)


def lose_picture(root: Path) -> None:
    next(iter(root.rglob("*_3.tif"))).unlink()


def copy_twice(root: Path) -> None:
    shutil.copytree(root, root / "kaggle_3m")


def break_file(root: Path) -> None:
    path = next(iter(root.rglob("*_3.tif")))
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_name, "slice_3.tif: its name says no patient; expected TCGA_"),
        (spoil_mask, "_3_mask.tif: level 7 is no label of a mask, which knows 0, 255"),
        (lose_picture, "there is no picture of this mask"),
        (copy_twice, "is there twice"),
        (break_file, "_3.tif: "),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(few: Path, spoil, says: str) -> None:
    spoil(few)
    with pytest.raises(DataError, match=says) as problem:
        LggMri().cases(few)
    assert "\n" not in str(problem.value)


def test_masks_are_needed_to_train_and_not_to_predict(few: Path) -> None:
    masks = sorted(few.rglob("*_mask.tif"))
    masks[0].unlink()
    assert "1 slices without a mask were left out" in LggMri().cases(few).notes
    for mask in masks[1:]:
        mask.unlink()
    with pytest.raises(DataError, match="no slice has a mask"):
        LggMri().cases(few)
    assert {c.class_name for c in LggMri().cases(few, need_target=False).cases} == {""}
    with pytest.raises(ConfigError, match="drop it"):
        LggMri().cases(few, labels="ET=1")
    with pytest.raises(DataError, match="no slices found"):
        LggMri().cases(write_empty(few / "empty"))


def write_empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_one_hospital_is_locked_away_whole(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    words = ("train", "lgg-mri", "--data", phantom, "--protocol", "hospitals", *TINY)
    assert medtl(monkeypatch, *words) == 2
    assert "name one fold by --fold; there are 0 CS (" in capsys.readouterr().err
    assert medtl(monkeypatch, *words, "--fold", 9) == 2
    told = "".join(capsys.readouterr())
    assert "--fold 9: the folds of --protocol hospitals are 0 CS (" in told
    assert "each is a hospital (its patients)" in told
    run = tmp_path / "run"
    assert medtl(monkeypatch, *words, "--fold", 3, "--out", run) == 0
    (split,) = json.loads((run / "splits.json").read_text())
    assert split["test"] and all(name.startswith("TCGA_FG_") for name in split["test"])
    assert not any(name.startswith("TCGA_FG_") for name in split["train"] + split["val"])


def test_segmentation_in_2d_writes_masks_as_pictures(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert medtl(monkeypatch, "train", "lgg-mri-seg", "--data", phantom, *TINY, "--out", run) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["scratch"]) == {"tumor"} and summary["data"]["leak"] == ""
    assert summary["data"]["unit"] == "pixel"
    one = next(p for p in sorted(phantom.iterdir()) if p.is_dir())
    assert medtl(monkeypatch, "predict", run, "-i", one, "-o", out, "--quiet") == 0
    written = sorted(out.glob("*.png"))
    assert len(written) == SLICES
    capsys.readouterr()
    assert medtl(monkeypatch, "predict", run, "-i", one, "-o", out) == 0
    told = capsys.readouterr().err
    assert f"warning: replacing {written[0].name}, " in told and f" and 9 more in {out}" in told
    mask = np.asarray(Image.open(written[0]))
    assert mask.shape == (SIZE, SIZE) and set(np.unique(mask)) <= {0, 255}


def test_segmentation_truth_is_the_mask(phantom: Path) -> None:
    cases = LggMriSegmentation().cases(phantom).cases
    for case in cases[:8]:
        assert case.target is not None
        found = Preprocessor(("flair",), ("tumor",), picture_plain().with_size((SIZE, SIZE)))(case)
        truth = np.asarray(Image.open(case.target.path)) > 0
        np.testing.assert_array_equal(found["target"][0, ..., 0].numpy() > 0, truth)
