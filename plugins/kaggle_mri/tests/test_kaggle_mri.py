"""The task kaggle-mri: classes by folder, groups of twins, protocols, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.cli.start import main
from medtl.data.phantom import write_phantom
from medtl.errors import ConfigError, DataError
from medtl_kaggle_mri.task import UNKNOWN_PATIENTS, KaggleMri

TINY = ("--width", "4", "--batch-size", "4", "--steps", "2", "--set=patch_size=32,32", "--quiet")
TINY += ("--device", "cpu", "--precision", "fp32", "--workers", "0")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kaggle") / "data"
    return write_phantom(root, cases=20, size=48, sites=2, seed=0, layout="kaggle-mri")


def picture(seed: int, size: int = 40) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(40, 255, (8, 8), dtype=np.uint8))
    inside = coarse.resize((size // 2, size // 2), Image.Resampling.BICUBIC)
    whole = Image.new("L", (size, size))
    whole.paste(inside, (size // 4, size // 4))
    return whole


def write(root: Path, *names: str) -> Path:
    """A picture under each name, all different."""
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name)
    return root


def four(root: Path) -> Path:
    folders = ("glioma_tumor", "Meningioma", "notumor", "pituitary tumour")
    return write(root, *(f"{folder}/{n}.png" for folder in folders for n in range(2)))


def test_folders_of_both_kaggle_sets_name_the_classes(tmp_path: Path) -> None:
    cohort = KaggleMri().cases(four(tmp_path))
    assert [case.class_name for case in cohort.cases] == [
        "meningioma", "meningioma", "glioma", "glioma",
        "no_tumor", "no_tumor", "pituitary", "pituitary",
    ]  # fmt: skip
    assert len({case.patient for case in cohort.cases}) == 8
    assert cohort.leak == UNKNOWN_PATIENTS and not cohort.synthetic
    assert cohort.counted == "groups of near-duplicates"


def test_planted_twins_are_one_patient_and_nothing_else_is(phantom: Path) -> None:
    cohort = KaggleMri().cases(phantom)
    twins = json.loads((phantom / "phantom.json").read_text())["twins"]
    patients = {case.images["image"].path.relative_to(phantom).as_posix(): case.patient
                for case in cohort.cases}  # fmt: skip
    for again, first in twins.items():
        assert patients[again] == patients[first]
    assert len(set(patients.values())) == len(patients) - len(twins)
    assert any(f"{len(patients)} pictures in {len(set(patients.values()))} groups" in note
               and "from 0.9 on, there would be" in note for note in cohort.notes)  # fmt: skip
    assert cohort.synthetic and {case.site for case in cohort.cases} == {"S1", "S2"}


def test_part_of_the_phantom_is_synthetic_too(phantom: Path) -> None:
    cohort = KaggleMri().cases(phantom / "Training")
    assert cohort.synthetic and {case.site for case in cohort.cases} == {"S1", "S2"}


def test_pictures_under_two_classes_are_left_out(tmp_path: Path) -> None:
    root = four(tmp_path)
    picture(0).save(root / "notumor" / "again.png")
    cohort = KaggleMri().cases(root)
    assert len(cohort.cases) == 7
    assert any("2 pictures lie in folders of two classes, left out" in n for n in cohort.notes)


def test_every_picture_is_predicted_whatever_folders_it_lies_in(tmp_path: Path) -> None:
    root = four(tmp_path)
    picture(0).save(root / "notumor" / "again.png")
    write(root, "to tell/1.png")
    (root / "to tell" / "1.png").write_bytes((root / "Meningioma" / "0.png").read_bytes())
    cohort = KaggleMri().cases(root, need_target=False)
    assert len(cohort.cases) == 10
    # Twins in two classes have none; one without a class takes none away.
    classless = [case.id for case in cohort.cases if not case.class_name]
    assert classless == ["glioma_tumor_0.png", "notumor_again.png", "to tell_1.png"]


def test_official_protocol_tests_on_testing_and_tells_the_leak(phantom: Path) -> None:
    cohort = KaggleMri().cases(phantom, protocol="official")
    testing = {case.id for case in cohort.cases if case.part == "testing"}
    assert set(cohort.test) == testing and len(testing) == 4
    assert {case.patient for case in cohort.cases} == {case.id for case in cohort.cases}
    assert "LEAK: 2 of 4 Testing pictures" in cohort.leak


def test_official_protocol_needs_a_testing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs the folders Training and Testing"):
        KaggleMri().cases(four(tmp_path), protocol="official")


def test_colours_are_channels_for_networks_that_want_three(phantom: Path) -> None:
    cohort = KaggleMri().cases(phantom, required=("red", "green", "blue"))
    images = cohort.cases[0].images
    assert [images[name].channel for name in ("red", "green", "blue")] == [0, 1, 2]
    assert "image" not in images


def test_every_odd_kind_of_picture_is_read(tmp_path: Path) -> None:
    root = four(tmp_path)
    folder = root / "glioma_tumor"
    picture(20).convert("CMYK").save(folder / "cmyk.jpg")
    picture(21).convert("RGBA").save(folder / "rgba.png")
    picture(22).convert("P").save(folder / "palette.bmp")
    Image.fromarray(np.asarray(picture(23)).astype(np.uint16) * 257).save(folder / "16bit.png")
    picture(24).save(folder / "wrong.png", format="JPEG")
    cohort = KaggleMri().cases(root)
    assert sum(case.class_name == "glioma" for case in cohort.cases) == 7


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "glioma_tumor" / "0.png").write_bytes(b"\xff\xd8\xff\xe0half"),
         r"glioma_tumor/0.png: "),
        (lambda root: (root / "tumor_of_unknown_kind" / "x").mkdir(parents=True),
         "holds no image; remove the folder"),
        (lambda root: write(root, "stroke/1.png"), "'stroke' is none of the classes glioma"),
        (lambda root: (root / "glioma_tumor" / "brain.nii.gz").write_bytes(b"\x1f\x8b"),
         "brain.nii.gz: not a picture; see task classification"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_the_file(tmp_path: Path, spoil, says: str) -> None:
    root = four(tmp_path)
    spoil(root)
    with pytest.raises(DataError, match=says) as problem:
        KaggleMri().cases(root)
    assert "\n" not in str(problem.value)


def test_folder_without_classes_is_refused_for_training_alone(tmp_path: Path) -> None:
    root = write(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match="holds no folder per class, so no image has one; give"):
        KaggleMri().cases(root)
    cohort = KaggleMri().cases(root, need_target=False)
    assert [case.class_name for case in cohort.cases] == ["", ""]


def test_one_class_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    cohort = KaggleMri().cases(write(tmp_path, *(f"glioma/{n}.png" for n in range(4))))
    with pytest.raises(DataError, match="no training case is of class meningioma"):
        KaggleMri().advise(cohort.cases, ("image",))
    with pytest.raises(ConfigError, match="needs none, so drop it"):
        KaggleMri().cases(tmp_path, labels="WT=1")


def test_official_run_scores_the_twins_and_says_so_everywhere(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def medtl(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["medtl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    run = tmp_path / "run"
    words = ("train", "kaggle-mri", "--data", phantom, "--protocol", "official")
    assert medtl(*words, *TINY, "--out", run) == 0
    data = json.loads((run / "summary.json").read_text())["data"]
    assert data["leak"].startswith("LEAK: 2 of 4") and data["cases"] == 4
    # Once among the notes, and below every table.
    for details, tables in ((), 1), (("--details",), 4):
        assert medtl("evaluate", run, *details) == 0
        shown = capsys.readouterr()
        assert shown.err.count("LEAK: 2 of 4") == 1
        assert shown.out.count("LEAK: 2 of 4") == tables
    # Test pictures alone are scored though they were trained on.
    assert medtl("evaluate", run, "--cases", "all", "--json", "--quiet") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["cases"], data["excluded_seen"], data["kept_seen"]) == (4, 16, 0)
    assert medtl(*words, *TINY, "--folds", 5, "--fold", 0) == 2
    assert "--protocol official says who is tested on; drop --folds" in capsys.readouterr().err
    assert medtl("train", "kaggle-mri", "--data", phantom, "--protocol", "grupped") == 2
    assert "did you mean 'grouped'? (has grouped, official)" in capsys.readouterr().err
