"""Classes of whole images, from the command line to locked test cases, in 2-D and 3-D.

Axes: I J K voxels.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import Scan, write_scan
from PIL import Image
from pydicom.uid import generate_uid
from sklearn import metrics
from terminal import Terminal, exit_code

from medtl.data.tasks.classification_defaults import choose_size
from medtl.transfer.weights import BEST, read_weights

CLASSES = ("bar", "disc", "ring")
TINY = ("--width", "4", "--device", "cpu", "--precision", "fp32", "--batch-size", "8", "-q")
SMALL = (*TINY, "--set=patch_size=64,64")


def shape_of(name: str, random: np.random.Generator, size: int) -> np.ndarray:
    """A dark noisy square with a bright bar, disc or ring somewhere."""
    middle = size / 2 + random.uniform(-0.1, 0.1, 2) * size
    i, j = np.indices((size, size)) - middle[:, None, None]
    far = np.hypot(i, j) / size
    masks = {
        "bar": (abs(i) < 0.06 * size) & (abs(j) < 0.38 * size),
        "disc": far < 0.2,
        "ring": (far > 0.26) & (far < 0.34),
    }
    noisy = 40 + 120 * masks[name] + random.normal(0, 12, (size, size))
    return noisy.clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, each: int, seed: int = 0) -> Path:
    """A folder per class of pictures of several sizes, modes and formats."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            image = Image.fromarray(shape_of(name, random, 40 + 4 * (number % 5)))
            mode, suffix = (("L", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("P", "png"))[number % 4]
            image.convert(mode).save(folder / name / f"{number:02}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data", each=24)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "scratch"
    words = ("train", "classification", "--data", pictures, *SMALL, "--steps", 60, "--out", out)
    assert exit_code(*words) == 0
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


# --- training -------------------------------------------------------------------------------------


def test_shapes_are_told_apart(run: Path) -> None:
    scores = read(run, "summary.json")["scratch"]
    assert list(scores) == ["all", *CLASSES]
    assert scores["all"]["accuracy"]["mean"] >= 0.8
    assert scores["all"]["auroc"]["mean"] >= 0.9


def test_split_is_balanced_over_classes_and_keeps_patients_apart(run: Path) -> None:
    (split,) = read(run, "splits.json")
    sides = [split["train"], split["val"], split["test"]]
    assert len(set().union(*sides)) == sum(map(len, sides)) == 72
    for side in sides:
        counts = Counter(name.partition("_")[0] for name in side)
        assert set(counts) == set(CLASSES)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_summary_is_that_of_the_written_predictions(run: Path) -> None:
    rows = table(run / "predictions.csv")
    summary = read(run, "summary.json")
    truth, said = ([row[key] for row in rows] for key in ("class", "predicted"))
    shares = np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])
    assert shares.sum(1) == pytest.approx(1, abs=1e-4)
    assert sorted(row["case"] for row in rows) == read(run, "splits.json")[0]["test"]
    found = summary["scratch"]["all"]
    assert found["accuracy"]["mean"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert found["macro_f1"]["mean"] == pytest.approx(
        metrics.f1_score(truth, said, average="macro")
    )
    confusion = summary["data"]["confusion"]["scratch"]
    assert confusion["cases"] == metrics.confusion_matrix(truth, said, labels=CLASSES).tolist()
    for interval in found.values():
        assert {"mean", "n", "low", "high", "method"} <= set(interval)
    for name in ("confusion", "ranking", "calibration"):
        path = run / "figures" / f"{name}-scratch.png"
        assert path.read_bytes().startswith(b"\x89PNG")


def test_checkpoint_was_chosen_by_validation_and_says_what_it_needs(run: Path) -> None:
    metadata = read_weights(run / "scratch" / BEST).metadata
    assert metadata["kind"] == "classification" and metadata["regions"] == list(CLASSES)
    assert metadata["network"]["spatial_dims"] == 2
    assert metadata["preprocessing"]["size"] == [64, 64]
    validation = read(run, "splits.json")[0]["val"]
    assert metadata["temperature_fitted_on"] == len(validation)
    calibration = read(run, "summary.json")["data"]["calibration"]["scratch"]
    assert calibration["temperature"] == metadata["temperature"]
    assert sum(each["cases"] for each in calibration["reliability"]) == len(
        read(run, "splits.json")[0]["test"]
    )
    lines = (run / "scratch" / "metrics.jsonl").read_text().splitlines()
    validated = [json.loads(line)["validation"] for line in lines if "validation" in line]
    assert len(validated) == 2 and all(set(v) == set(CLASSES) for v in validated)
    best = max(sum(v.values()) / 3 for v in validated)
    assert metadata["validation_soft_balanced_accuracy"] == pytest.approx(best)
    assert 0.4 < best <= 1


def test_transfer_from_a_domain_to_itself_is_warned_of(pictures: Path, medtl: Terminal) -> None:
    words = ("train", "classification", "--data", pictures, "--dry-run", "--width", "4")
    printed = "".join(medtl(*words, "--strategy", "fine-tune"))
    assert "--src and --dst are the same images: training longer on them is no transfer" in printed


def test_plan_shows_the_fingerprint_and_a_reason_for_each_choice(
    pictures: Path, medtl: Terminal
) -> None:
    out, err = medtl("train", "classification", "--data", pictures, "--dry-run", "--width", "4")
    assert "patient leakage cannot be excluded" in err and "no transfer" not in err
    words = " ".join((out + err).split())
    for text in (
        "class disc 14 training cases (33%)",
        "median size 48x48 pixels",
        "smallest, largest 40x40, 56x56",
        "RGB (12)",
        "64x64 the median picture's, rounded to multiples of 32; each is scaled to fit",
        "an eighth of the 42 training cases",
        "cross-entropy every image is of one class",
    ):
        assert text in words


@pytest.mark.parametrize(
    ("rows", "columns", "size", "why"),
    [
        (96, 64, (96, 64), "the median picture's; others are scaled to fit"),
        (111, 111, (128, 128), "the median picture's, rounded to multiples of 32; each is scaled"),
        (256, 128, (128, 64), "the median picture's, 128 along its longest edge; each is scaled"),
        (512, 500, (128, 128), "128 along its longest edge, rounded to multiples of 32; each is"),
    ],
)
def test_reason_for_a_size_is_true_of_it(
    rows: int, columns: int, size: tuple[int, int], why: str
) -> None:
    chosen, reason = choose_size(rows, columns)
    assert chosen == size
    assert why in reason


def test_evaluate_repeats_the_scores_of_the_run(run: Path, medtl: Terminal) -> None:
    words = ("--device", "cpu", "--precision", "fp32", "-q")
    out, _ = medtl("evaluate", run, "--json", *words)
    found, kept = json.loads(out), read(run, "summary.json")
    assert found["scratch"]["all"]["accuracy"] == kept["scratch"]["all"]["accuracy"]
    assert found["data"]["confusion"] == kept["data"]["confusion"]


def test_other_pictures_are_scored_and_seen_ones_left_out(
    run: Path, pictures: Path, tmp_path: Path, medtl: Terminal
) -> None:
    other = write_pictures(tmp_path / "other", each=3, seed=9)
    (split,) = read(run, "splits.json")
    name, _, file = split["train"][0].partition("_")
    (other / name / f"again{Path(file).suffix}").write_bytes((pictures / name / file).read_bytes())
    out, err = medtl("evaluate", run, "--data", other, "--json", "--device", "cpu")
    data = json.loads(out)["data"]
    assert (data["cases"], data["excluded_seen"]) == (9, 1)
    assert "1 of 10 cases left out: seen in training" in err


def test_prediction_is_a_table_of_probabilities(
    run: Path, pictures: Path, tmp_path: Path, medtl: Terminal
) -> None:
    words = ("--device", "cpu", "--precision", "fp32", "-q")
    medtl("predict", run, "-i", pictures / "ring", "-o", tmp_path / "flat", *words)
    flat = {row["case"]: row for row in table(tmp_path / "flat" / "predictions.csv")}
    assert len(flat) == 24
    assert list(flat["00.png"]) == ["case", *(f"p_{name}" for name in CLASSES), "predicted"]
    scored = [row for row in table(run / "predictions.csv") if row["class"] == "ring"]
    for row in scored:
        again = flat[row["case"].removeprefix("ring_")]
        assert again["predicted"] == row["predicted"]
        assert float(again["p_ring"]) == pytest.approx(float(row["p_ring"]), abs=1e-4)
    medtl("predict", run, run, "-i", pictures, "-o", tmp_path / "two", *words)
    both = {row["case"]: row for row in table(tmp_path / "two" / "predictions.csv")}
    assert float(both["ring_00.png"]["p_bar"]) == pytest.approx(
        float(flat["00.png"]["p_bar"]), abs=1e-4
    )


@pytest.mark.parametrize("option", ["--probabilities", "--uncertainty", "--profile", "--register"])
def test_options_of_segmentation_are_refused(
    run: Path, pictures: Path, tmp_path: Path, medtl: Terminal, option: str
) -> None:
    words = ("predict", run, "-i", pictures, "-o", tmp_path / "out", option, "--device", "cpu")
    _, err = medtl(*words, code=2)
    assert f"{option} is for segmentation; this run tells classes" in err


# --- transfer, resume -----------------------------------------------------------------------------


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(folder / BEST).tensors


def test_linear_probe_from_a_run_changes_the_head_alone(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "probe"
    words = ("--strategy", "linear-probe", "--init", run, "--steps", 4, "--out", out)
    assert exit_code("train", "classification", "--data", pictures, *SMALL, *words) == 0
    before, after = tensors(run / "scratch"), tensors(out / "linear-probe")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    receipt = read(out, "receipt.json")["linear-probe"]
    assert sum(receipt["shares"].values()) == pytest.approx(1)
    assert {t["name"] for t in receipt["tensors"] if t["status"] == "random"} == changed


def test_fine_tuning_to_other_classes_takes_all_but_the_head(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("disc", "ring"):
        (data / name).symlink_to(pictures / name)
    (data / "line").symlink_to(pictures / "bar")
    words = ("--strategy", "fine-tune", "--init", run, "--steps", 2, "--with-control")
    words += ("--out", tmp_path / "tuned")
    assert exit_code("train", "classification", "--data", data, *SMALL, *words) == 0
    receipt = read(tmp_path / "tuned", "receipt.json")
    assert set(receipt) == {"fine-tune", "control-a", "control-b"}
    statuses = {t["name"]: t["status"] for t in receipt["fine-tune"]["tensors"]}
    assert statuses["fc.weight"] == "random" and statuses["layer4.1.conv2.weight"] == "loaded"
    assert set(read(tmp_path / "tuned", "summary.json")) == {"data", *receipt}


def test_interrupted_training_goes_on_to_the_same_weights(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medtl.training.loop

    words = ("train", "classification", "--data", pictures, *SMALL, "--steps", 20, "--out")
    assert exit_code(*words, tmp_path / "whole") == 0
    append = medtl.training.loop.append_line

    def killed(path: Path, row: dict[str, Any]) -> None:
        append(path, row)
        if row["step"] == 13:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(medtl.training.loop, "append_line", killed)
        assert exit_code(*words, tmp_path / "cut") == 130
    assert exit_code("train", "--resume", tmp_path / "cut", "-q") == 0
    whole, cut = (tensors(tmp_path / name / "scratch") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_workers_and_kind_of_cache_change_no_weight(pictures: Path, tmp_path: Path) -> None:
    words = ("train", "classification", "--data", pictures, *SMALL, "--steps", 4, "--out")
    assert exit_code(*words, tmp_path / "a") == 0
    assert exit_code(*words, tmp_path / "b", "--workers", 1, "--cache", "disk") == 0
    a, b = (tensors(tmp_path / name / "scratch") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


# --- other layouts --------------------------------------------------------------------------------


def test_table_and_datalist_train_the_weights_of_the_folders(
    pictures: Path, tmp_path: Path
) -> None:
    files = [path for name in CLASSES for path in sorted((pictures / name).iterdir())]
    lines = [["id", "image", "class"]]
    lines += [[f"{p.parent.name}_{p.name}", str(p), p.parent.name] for p in files]
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    items = [{"id": i, "image": path, "label": CLASSES.index(name)} for i, path, name in lines[1:]]
    names = {str(n): name for n, name in enumerate(CLASSES)}
    (tmp_path / "list.json").write_text(json.dumps({"training": items, "labels": names}))
    words = ("train", "classification", *SMALL, "--steps", 2, "--out")
    found = []
    for number, data in enumerate((pictures, tmp_path / "list.csv", tmp_path / "list.json")):
        assert exit_code(*words, tmp_path / str(number), "--data", data) == 0
        found.append(tensors(tmp_path / str(number) / "scratch"))
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in found[0])


def test_testing_folder_is_kept_apart_and_can_be_scored(tmp_path: Path, medtl: Terminal) -> None:
    data = tmp_path / "data"
    write_pictures(data / "Training", each=8)
    write_pictures(data / "Testing_part", each=2, seed=7)
    out = tmp_path / "run"
    words = ("--width", 4, "--device", "cpu", "--set=patch_size=64,64", "--steps", 2)
    _, err = medtl("train", "classification", "--data", data, *words, "--out", out)
    assert "6 cases of part testing are not trained on" in err
    (split,) = read(out, "splits.json")
    assert all(name.startswith("Training_") for name in split["patients"])
    found, _ = medtl("evaluate", out, "--data", data / "Testing_part", "--json", "--device", "cpu")
    assert json.loads(found)["data"]["cases"] == 6


def test_patients_of_a_table_stay_on_one_side(pictures: Path, tmp_path: Path) -> None:
    lines = [["case", "patient", "scan", "class"]]
    for name in CLASSES:
        for number, path in enumerate(sorted((pictures / name).iterdir())):
            lines.append([f"{name}{number}", f"{name}{number // 3}", str(path), name])
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    words = ("train", "classification", *SMALL, "--steps", 2, "--out", tmp_path / "run")
    assert exit_code(*words, "--data", tmp_path / "list.csv") == 0
    (split,) = read(tmp_path / "run", "splits.json")
    patients = split["patients"]
    sides = [{patients[name] for name in split[side]} for side in ("train", "val", "test")]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 24
    assert read(tmp_path / "run", "summary.json")["data"]["patients"] < 24


def test_colours_become_channels(tmp_path: Path, medtl: Terminal) -> None:
    random = np.random.default_rng(0)
    for name, strength in (("blue", (0, 0, 120)), ("red", (120, 0, 0))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            noise_IJH = random.integers(0, 100, (40, 40, 3)) + np.array(strength)
            image = Image.fromarray(noise_IJH.astype(np.uint8))
            image.save(tmp_path / "data" / name / f"{number}.png")
    words = ("--width", 4, "--device", "cpu", "--set=patch_size=64,64", "--steps", 2)
    out = tmp_path / "run"
    _, err = medtl("train", "classification", "--data", tmp_path / "data", *words, "--out", out)
    assert "12 of 12 pictures looked at have colours: kept" in err
    assert read_weights(out / "scratch" / BEST).modalities == ("red", "green", "blue")
    medtl("predict", out, "-i", tmp_path / "data" / "red", "-o", tmp_path / "out", "-q")


def write_volumes(folder: Path, each: int) -> Path:
    """NIfTI volumes, small ones of either class lying in other orientations."""
    random = np.random.default_rng(1)
    for name, value in (("bright", 3.0), ("dark", -1.0)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            head_IJK = np.zeros((24, 28, 20), dtype=np.float32)
            inside = np.s_[4:20, 4:24, 3:17]
            head_IJK[inside] = random.normal(10, 1, (16, 20, 14))
            head_IJK[8:14, 8:14, 6:12] += value
            affine = np.diag([3.0 if number % 2 else -3.0, 3.0, 3.0, 1.0])
            nib.save(nib.Nifti1Image(head_IJK, affine), folder / name / f"{number}.nii.gz")
    return folder


def test_volumes_are_classified_in_3d(tmp_path: Path, medtl: Terminal) -> None:
    data = write_volumes(tmp_path / "data", each=10)
    words = ("--width", 4, "--device", "cpu", "--batch-size", 4, "--steps", 3)
    out = tmp_path / "run"
    printed, err = medtl("train", "classification", "--data", data, *words, "--out", out)
    err += printed
    assert "class bright" in err and "3x3x3 mm (isotropic)" in err
    recorded = read_weights(out / "scratch" / BEST).metadata
    assert recorded["network"]["spatial_dims"] == 3
    assert recorded["preprocessing"]["preset"] == "mr"
    assert set(read(out, "summary.json")["scratch"]) == {"all", "bright", "dark"}
    medtl("predict", out, "-i", data / "dark", "-o", tmp_path / "out", "-q", "--device", "cpu")
    write_pictures(tmp_path / "flat", each=1)
    line = medtl.refused("predict", out, "-i", tmp_path / "flat", "-o", tmp_path / "no", "-q")
    assert "holds pictures, the model was trained on volumes" in line
    assert len(table(tmp_path / "out" / "predictions.csv")) == 10
    head_IJK = np.asanyarray(nib.load(data / "dark" / "0.nii.gz").dataobj) * 50
    scan = Scan(values_IJK=head_IJK.astype(np.int16), spacing_mm=(3.0, 3.0, 3.0))
    for number in range(2):
        write_scan(tmp_path / "dicom" / str(number), replace(scan, study=generate_uid()))
    words = ("predict", out, "-i", tmp_path / "dicom", "-o", tmp_path / "classes", "-q")
    medtl(*words, "--device", "cpu")
    rows = table(tmp_path / "classes" / "predictions.csv")
    assert len(rows) == 2 and all(row["case"].startswith("study-") for row in rows)
    assert rows[0]["p_dark"] == rows[1]["p_dark"]


# --- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "few", each=4)


def bad_folders(root: Path) -> Iterator[tuple[str, str]]:
    (root / "empty").mkdir()
    yield "empty: holds no image; remove the folder", "empty"
    (root / "empty").rmdir()
    damaged = root / "disc" / "00.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    yield f"{damaged}: damaged (", "damaged"
    damaged.write_bytes(b"not a picture")
    yield f"{damaged}: no picture that can be read (PNG", "no picture"
    damaged.write_bytes(whole)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), root / "disc" / "x.nii.gz")
    yield "is a picture", "mixed"


def test_bad_folders_are_one_clear_line(few: Path, medtl: Terminal) -> None:
    for expected, _ in bad_folders(few):
        line = medtl.refused("train", "classification", "--data", few, *SMALL, "--steps", 1)
        assert expected in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--network", "unet"), "unet predicts maps of regions, task classification needs another"),
        (("--transforms", "brain-mr"), "brain-mr is for volumes in mm; these are pictures"),
        (("--spacing", "2"), "--spacing: picture scales every image to fit"),
        (("--set=patch_size=64,64,64",), "patch_size: these images have 2 axes, not 3"),
        (("--labels", "a=1"), "--labels names regions of segmentations"),
        (("--loss", "x"), ""),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    few: Path, medtl: Terminal, words: tuple[str, ...], expected: str
) -> None:
    if words[0] == "--loss":
        words, expected = ("--set=loss=cross-entrop",), "did you mean 'cross-entropy'?"
    line = medtl.refused("train", "classification", "--data", few, "-q", "--width", "4", *words)
    assert expected in line


def test_classes_that_cannot_be_learnt_are_refused(
    few: Path, tmp_path: Path, medtl: Terminal
) -> None:
    words = ("train", "classification", *SMALL, "--steps", 1, "--data")
    assert "has no data of its own" in medtl.refused(*words[:-1])
    assert "holds no folder per class" in medtl.refused(*words, few / "disc")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "disc").symlink_to(few / "disc")
    assert "has the one class disc; at least 2" in medtl.refused(*words, tmp_path / "one")
    (tmp_path / "one" / "lone").mkdir()
    (tmp_path / "one" / "lone" / "a.png").write_bytes((few / "ring" / "00.png").read_bytes())
    line = medtl.refused(*words, tmp_path / "one", "--test-cases", "lone_a.png")
    assert "no training case is of class lone" in line


def test_class_that_was_not_trained_on_is_refused(run: Path, few: Path, medtl: Terminal) -> None:
    (few / "ring").rename(few / "star")
    line = medtl.refused("evaluate", run, "--data", few, "-q")
    assert "is of class star, which was not trained on; known: bar, disc, ring" in line


def test_classifier_is_refused_where_regions_are_segmented(tmp_path: Path, medtl: Terminal) -> None:
    from medtl.data.phantom import write_phantom

    write_phantom(tmp_path / "phantom", cases=3, size=24, sites=1, seed=0, workers=1)
    words = ("train", "brats", "--data", tmp_path / "phantom", "-q", "--width", "4")
    line = medtl.refused(*words, "--network", "resnet18")
    assert "resnet18 predicts the classes of whole images, task brats needs another" in line
    assert "picture is for whole images" in medtl.refused(*words, "--transforms", "picture")
