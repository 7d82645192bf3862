"""The main job end to end: train with controls, evaluate and predict on a tiny phantom.

Axes: I J K voxels.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from terminal import Terminal, run_forked

from medtl.config import read_config
from medtl.data.splits import read_splits
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.training.plan import make_plan
from medtl.transfer.weights import BEST, read_weights
from medtl_brats.task import Brats

METRICS = ["dice", "iou", "hd95_mm", "surface_dice", "sensitivity", "specificity", "precision"]
METRICS += ["lesion_dice", "lesion_precision", "lesion_recall", "lesion_f1"]
METRICS += ["true_lesions", "predicted_lesions", "missed_lesions", "false_lesions"]
METRICS += ["truth_ml", "predicted_ml", "volume_error_ml", "relative_volume_error"]
STAGES = ("source", "adapt", "unfreeze", "control-a", "control-b")
#: Whatever the defaults are tuned to, these tests stay small.
TINY = ("--network", "unet", "--width", "4", "--device", "cpu", "--precision", "fp32")
TINY += ("--transforms", "brain-mr", "--freeze=2", "--batch-size=2")
TINY += tuple(f"--set={text}" for text in ("patch_size=32,32,32", "test_fraction=0.2"))
SCRATCH = (*(word for word in TINY if word != "--freeze=2"), "--strategy", "scratch")


@dataclass(frozen=True)
class Job:
    """A finished run and the data it used."""

    data: Path
    run: Path
    stdout: str
    stderr: str

    @property
    def split(self) -> dict[str, Any]:
        return json.loads((self.run / "splits.json").read_text())[0]


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=14, size=24, sites=2, seed=3)


@pytest.fixture(scope="module")
def job(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    words = ("train", "brats", "--data", phantom, "--strategy", "modality-transfer", *TINY)
    words += ("--steps", "6", "--with-control", "--out", run)
    done = run_forked("-m", "medtl", *words, code=0)
    return Job(phantom, run, done.stdout, done.stderr)


def rewrite(case: Path, folder: Path, name: str, suffix: str = ".nii", change=lambda i: i) -> Path:
    """A copy of a case's folder under another name, its files stored anew."""
    copy = folder / name
    copy.mkdir(parents=True)
    for file in case.glob("*.nii.gz"):
        kind = file.name.removesuffix(".nii.gz").rpartition("_")[2]
        nib.save(change(nib.load(file)), copy / f"{name}_{kind}{suffix}")
    return copy


# --- train ------------------------------------------------------------------------------------


def test_run_folder_holds_everything(job: Job) -> None:
    expected = {"config.yaml", "environment.json", "splits.json", "receipt.json", "stages.json"}
    expected |= {"inputs.json", "summary.json", "metrics.csv", "figures", *STAGES}
    assert {path.name for path in job.run.iterdir()} == expected
    for stage in STAGES:
        assert (job.run / stage / BEST).is_file() and (job.run / stage / "metrics.jsonl").is_file()
    pictures = list((job.run / "figures").glob("*.png"))
    assert {"curves", "split", "scores", "source"} <= {path.stem for path in pictures}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert not [path for path in job.run.rglob(".*") if path.is_file()]


def test_tables_go_to_stdout_and_progress_to_stderr(job: Job) -> None:
    assert "Scores of patients not seen in training" in job.stdout
    assert "steps/s" not in job.stdout and "Scores of" not in job.stderr
    assert "synthetic phantom" in job.stderr.splitlines()[0]
    assert "stem stays trainable: new modalities t1, t2" in job.stderr
    assert "Traceback" not in job.stderr and "Warning" not in job.stderr


def test_run_ends_with_the_transfer_less_its_controls(job: Job) -> None:
    with (job.run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["region"] == "WT"]
    dice = {stage: {} for stage in STAGES}
    for row in rows:
        dice[row["stage"]][row["patient"]] = float(row["dice"])
    found = json.loads((job.run / "summary.json").read_text())["data"]["against_controls"]
    assert found["stage"] == "unfreeze"
    for control in ("control-a", "control-b"):
        own = [dice["unfreeze"][patient] - dice[control][patient] for patient in dice[control]]
        assert found["outputs"]["WT"][control]["mean"] == pytest.approx(np.mean(own))
    assert "Difference in Dice: unfreeze minus each control" in job.stdout
    assert "--with-control asks it" not in job.stderr


def test_stages_are_listed_without_the_controls(job: Job) -> None:
    assert json.loads((job.run / "stages.json").read_text()) == ["source", "adapt", "unfreeze"]


def test_splits_are_a_list_of_folds_by_patient(job: Job) -> None:
    (fold,) = json.loads((job.run / "splits.json").read_text())
    cases = [set(fold[side]) for side in ("train", "val", "test")]
    assert all(cases) and sum(map(len, cases)) == len(set.union(*cases)) == 14
    split = read_splits(job.run / "splits.json")
    assert set(split.test) == cases[2]


def test_receipt_adds_up_for_every_stage(job: Job) -> None:
    receipt = json.loads((job.run / "receipt.json").read_text())
    assert tuple(receipt) == STAGES
    for stage, found in receipt.items():
        assert sum(found["shares"].values()) == pytest.approx(1)
        random = stage in ("source", "control-a", "control-b")
        assert (found["shares"]["random"] == 1) == random
    assert receipt["adapt"]["new_modalities"] == ["t1", "t2"]
    assert receipt["unfreeze"]["shares"]["loaded"] == 1


def test_steps_are_those_of_the_plan(job: Job) -> None:
    steps = {
        stage: len((job.run / stage / "metrics.jsonl").read_text().splitlines()) for stage in STAGES
    }
    assert steps["source"] == steps["adapt"] + steps["unfreeze"] == steps["control-a"] == 6
    assert steps["control-b"] == 12


def test_frozen_block_is_bitwise_that_of_the_source(job: Job) -> None:
    network = load_catalog().networks["unet"].load()(in_channels=2, out_channels=3, width=4)
    from medtl.networks.blocks import partition

    owners = partition(network)
    stem, second = (block.name for block in network.blocks[:2])
    source = read_weights(job.run / "source" / BEST).tensors
    adapted = read_weights(job.run / "adapt" / BEST).tensors
    changed = {owners[name] for name in source if not (source[name] == adapted[name]).all()}
    assert second not in changed and stem in changed and len(changed) > 1


def test_checkpoints_say_what_they_were_trained_on(job: Job) -> None:
    for stage, modalities in (("source", ("flair", "t1ce")), ("unfreeze", ("t1", "t2"))):
        weights = read_weights(job.run / stage / BEST)
        assert weights.modalities == modalities and weights.regions == ("WT", "TC", "ET")
        assert weights.metadata["synthetic"] is True and weights.metadata["stage"] == stage
        assert weights.metadata["preprocessing"]["preset"] == "brain-mr"
        assert len(weights.seen) == 4 * len(job.split["train"] + job.split["val"])


def test_config_of_a_run_plans_the_same_run_again(job: Job, medtl: Terminal) -> None:
    config = read_config(job.run / "config.yaml")
    plan = make_plan(config, load_catalog(), Reporter(quiet=True))
    assert tuple(stage.name for stage in plan.stages) == STAGES
    assert plan.stages[0].steps == config.steps == 6
    fold = job.split
    assert [list(plan.split.train), list(plan.split.val), list(plan.split.test)] == [
        fold[side] for side in ("train", "val", "test")
    ]
    words = ("train", "brats", "--data", job.data, *TINY, "--steps", "6", "--with-control")
    typed, _ = medtl(*words, "--dry-run")
    filed, _ = medtl("train", "--config", job.run / "config.yaml", "--dry-run")

    def stages(text: str) -> list[list[str]]:
        rows = (line.split() for line in text.splitlines())
        return [row[:-1] for row in rows if row and row[0] in STAGES]  # minutes may differ

    assert stages(typed) == stages(filed) and len(stages(typed)) == len(STAGES)


def test_dry_run_writes_nothing(
    job: Job, medtl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = medtl("train", "brats", "--data", job.data, *TINY, "--steps", "6", "--dry-run")
    assert "unfreeze" in out and "14 cases of 14 patients" in err and "test (locked)" in err
    assert "a stage of under 50 steps is validated once, at its end" in out
    medtl(
        *("train", "brats", "--data", job.data, *TINY, "--steps", "6", "--dry-run"),
        *("--out", tmp_path / "x", "--quiet"),
    )
    assert not list(tmp_path.iterdir())


def test_minutes_choose_the_steps(job: Job, medtl: Terminal) -> None:
    words = ("train", "brats", "--data", job.data, *SCRATCH, "--dry-run")

    def steps(*more: object) -> int:
        out, _ = medtl(*words, *more)
        return next(int(row.split()[2]) for row in out.splitlines() if row.startswith("scratch "))

    assert steps("--steps", "7") == 7
    assert 1 <= steps("--minutes", "0.0001") < steps("--minutes", "1")


def test_quiet_training_of_another_strategy_says_nothing_and_is_repeatable(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    words = ("train", "brats", "--data", job.data, *SCRATCH, "--quiet")
    for name, more in (("a", ()), ("b", ("--workers", "1", "--cache", "disk"))):
        assert medtl(*words, "--steps", "2", "--out", tmp_path / name, *more) == ("", "")
    one, two = (read_weights(tmp_path / name / "scratch" / BEST).tensors for name in "ab")
    assert all((one[name] == two[name]).all() for name in one)


def test_init_drops_test_patients_that_the_source_has_seen(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    seen, unseen = job.split["train"][0], job.split["test"][0]
    words = ("train", "brats", "--data", job.data, *TINY, "--strategy", "fine-tune")
    words += ("--steps", "1", "--init", job.run / "source")
    _, err = medtl(*words, "--test-cases", f"{seen},{unseen}", "--out", tmp_path / "next")
    assert "1 test patients left out" in err
    (fold,) = json.loads((tmp_path / "next" / "splits.json").read_text())
    assert fold["test"] == [unseen]
    _, err = medtl(*words, "--test-cases", seen, "--out", tmp_path / "none", code=2)
    assert "every test patient" in err and not (tmp_path / "none").exists()


# --- evaluate ---------------------------------------------------------------------------------


def test_summary_scores_every_stage_region_and_metric(job: Job) -> None:
    summary = json.loads((job.run / "summary.json").read_text())
    data = summary.pop("data")
    assert data["synthetic"] is True and data["patients"] == 3 and data["excluded_seen"] == 0
    assert tuple(summary) == STAGES
    with (job.run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(STAGES) * 3 * 3
    for stage, regions in summary.items():
        for region, metrics in regions.items():
            assert list(metrics) == METRICS
            for metric, found in metrics.items():
                assert {"mean", "n", "low", "high", "method"} <= set(found)
                values = [
                    float(r[metric]) for r in rows if (r["stage"], r["region"]) == (stage, region)
                ]
                assert found["n"] == 3 and found["mean"] == pytest.approx(np.mean(values))


def test_evaluate_prints_json_alone_and_repeats_the_summary(job: Job, medtl: Terminal) -> None:
    out, err = medtl("evaluate", job.run, "--json", "--device", "cpu", "--precision", "fp32")
    found, kept = json.loads(out), json.loads((job.run / "summary.json").read_text())
    kept["data"].pop("warnings", None)  # of the plan
    assert found == kept
    assert "scoring source" in err


def test_evaluate_takes_one_stage_on_its_own_modalities(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    for name in job.split["test"]:
        copy = rewrite(job.data / name, tmp_path / "data", name)
        (copy / f"{name}_flair.nii").unlink()
    out, _ = medtl(
        *("evaluate", job.run, "--data", tmp_path / "data", "--stage", "unfreeze"),
        *("--json", "--quiet", "--device", "cpu", "--precision", "fp32"),
    )
    found = json.loads(out)
    assert set(found) == {"data", "unfreeze"} and found["data"]["patients"] == 3
    _, err = medtl("evaluate", job.run, "--data", tmp_path / "data", "--stage", "source", code=2)
    assert "no flair" in err
    _, err = medtl("evaluate", job.run, "--stage", "sorce", code=2)
    assert "sorce" in err and "source" in err


def test_evaluate_excludes_and_counts_renamed_training_cases(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    names = {job.split["train"][0]: "New_01", job.split["val"][0]: "New_02"}
    names[job.split["test"][0]] = "New_03"
    for old, new in names.items():
        rewrite(job.data / old, tmp_path / "data", new)
    words = ("evaluate", job.run, "--data", tmp_path / "data", "--cases", "all", "--json")
    out, err = medtl(*words, "--stage", "source")
    data = json.loads(out)["data"]
    assert (data["patients"], data["excluded_seen"]) == (1, 2)
    assert "2 of 3 cases left out" in err
    shutil.rmtree(tmp_path / "data" / "New_03")
    out, err = medtl(*words, code=2)
    assert out == "" and "every case was seen in training" in err


# --- predict ----------------------------------------------------------------------------------


def axes(image: nib.Nifti1Image, wanted: str) -> nib.Nifti1Image:
    ornt = nib.orientations
    return image.as_reoriented(
        ornt.ornt_transform(ornt.io_orientation(image.affine), ornt.axcodes2ornt(tuple(wanted)))
    )


def test_predict_writes_label_maps_in_each_cases_native_grid(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    case = job.data / job.split["test"][0]
    turned = {"RAS": "Turned_RAS", "LPS": "Turned_LPS", "SAR": "Turned_SAR"}
    for wanted, name in turned.items():
        rewrite(case, tmp_path / "in", name, ".nii.gz", lambda i, w=wanted: axes(i, w))
    out, _ = medtl(
        *("predict", job.run, "-i", tmp_path / "in", "-o", tmp_path / "out"),
        *("--device", "cpu", "--precision", "fp32"),
    )
    assert out == ""
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "summary.json",  # which keeps the warning
        *("manifest.json", "volumes.csv"),
        *(f"{n}.nii.gz" for n in turned.values()),
    }
    masks = {}
    for wanted, name in turned.items():
        predicted = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        native = nib.load(tmp_path / "in" / name / f"{name}_t1.nii.gz")
        assert predicted.shape == native.shape
        np.testing.assert_allclose(predicted.affine, native.affine, atol=1e-6)
        assert "".join(nib.aff2axcodes(predicted.affine)) == wanted
        masks[wanted] = np.asanyarray(axes(predicted, "RAS").dataobj)
        assert set(np.unique(masks[wanted])) <= {0, 1, 2, 4}
    assert masks["RAS"].any()
    np.testing.assert_array_equal(masks["RAS"], masks["LPS"])
    np.testing.assert_array_equal(masks["RAS"], masks["SAR"])


def test_predict_uses_the_stage_asked_for_and_needs_no_segmentation(
    job: Job, medtl: Terminal, tmp_path: Path
) -> None:
    name = job.split["test"][0]
    copy = rewrite(job.data / name, tmp_path / "in", name)
    (copy / f"{name}_seg.nii").unlink()
    for kind in ("t1", "t2"):
        (copy / f"{name}_{kind}.nii").unlink()
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--quiet")
    warning = "warning: this model was trained on the synthetic phantom alone\n"
    assert medtl("predict", job.run / "source", *words) == ("", warning)
    assert (tmp_path / "out" / f"{name}.nii.gz").is_file()
    _, err = medtl("predict", job.run, *words, code=2)
    assert f"{name}: no t1 file" in err


def test_predicted_labels_score_as_evaluate_says(job: Job, medtl: Terminal, tmp_path: Path) -> None:
    words = ("-i", job.data, "-o", tmp_path, "--quiet", "--device", "cpu", "--precision", "fp32")
    medtl("predict", job.run / "source", *words)
    with (job.run / "metrics.csv").open() as file:
        scored = {
            (row["case"], row["region"]): float(row["dice"])
            for row in csv.DictReader(file)
            if row["stage"] == "source"
        }
    for case in Brats().cases(job.data).cases:
        if case.id not in job.split["test"]:
            continue
        predicted = np.asanyarray(nib.load(tmp_path / f"{case.id}.nii.gz").dataobj)
        truth = np.asanyarray(nib.load(case.target.path).dataobj)
        for region, values in case.regions.items():
            a, b = np.isin(predicted, values), np.isin(truth, values)
            dice = 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0
            assert scored[case.id, region] == pytest.approx(dice)


def test_resolved_config_is_plain_yaml(job: Job) -> None:
    config = yaml.safe_load((job.run / "config.yaml").read_text())
    assert config["src"] == "mod:flair+t1ce" and config["dst"] == "mod:t1+t2"
    assert config["patch_size"] == [32, 32, 32] and config["network"] == "unet"
