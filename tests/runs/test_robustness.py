"""Modality dropout, missing modalities and flips from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtl.training.trainer import LAST
from medtl.transfer.weights import BEST, read_weights
from medtl_brats.task import Brats

CPU = ("--device", "cpu", "--precision", "fp32")
TINY = ("--network", "unet", "--width", "4", "--batch-size", "2", "--transforms", "brain-mr", *CPU)
TINY += ("--strategy", "scratch", "--steps", "3", "--cache", "disk")
TINY += ("--set=patch_size=32,32,32", "--set=test_fraction=0.4")
REGIONS = ("WT", "TC", "ET")


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=12, size=24, sites=1, seed=3)


@pytest.fixture(scope="module")
def runs(
    command: Callable[..., None], phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same run without and with modality dropout."""
    parent = tmp_path_factory.mktemp("runs")
    for name, more in (("plain", ()), ("robust", ("--modality-dropout", "0.9"))):
        words = ("train", "brats", "--data", phantom, "--dst", "flair,t1,t2", *TINY, *more)
        command(*words, "--quiet", "--out", parent / name)
    return {name: parent / name for name in ("plain", "robust")}


def augmentation(run: Path) -> dict:
    return read_weights(run / "scratch" / BEST).metadata["preprocessing"]["augmentation"]


def test_dropout_changes_the_weights_and_is_recorded(runs) -> None:
    assert augmentation(runs["plain"])["modality_dropout"] == 0
    assert augmentation(runs["robust"])["modality_dropout"] == 0.9
    plain, robust = (read_weights(runs[name] / "scratch" / LAST).tensors for name in runs)
    assert any((plain[name] != robust[name]).any() for name in plain)


def test_every_subset_is_in_the_json_beside_what_was_there_before(runs, medtl) -> None:
    words = ("evaluate", runs["robust"], "--json", *CPU)
    plain = json.loads(medtl(*words)[0])
    found = json.loads(medtl(*words, "--missing-modalities")[0])
    missing = found.pop("missing_modalities")
    assert found == plain == json.loads((runs["robust"] / "summary.json").read_text())
    assert list(missing) == ["scratch"] and missing["scratch"]["modality_dropout"] == 0.9
    dice = missing["scratch"]["dice"]
    assert list(dice) == ["flair+t1+t2", "flair+t1", "flair+t2", "t1+t2", "flair", "t1", "t2"]
    for region in REGIONS:
        assert dice["flair+t1+t2"][region] == plain["scratch"][region]["dice"]
        assert {"mean", "n", "low", "high", "method"} <= set(dice["t2"][region])


def test_table_of_subsets_says_whether_the_run_had_dropout(runs, medtl) -> None:
    told, _ = medtl("evaluate", runs["plain"], "--missing-modalities", *CPU)
    assert "scratch: trained WITHOUT modality dropout" in told
    told, _ = medtl("evaluate", runs["robust"], "--missing-modalities", *CPU)
    assert "scratch: trained with modality dropout 0.9" in told
    rows = [line.split() for line in told.splitlines() if line.startswith("  ")]
    rows = [row for row in rows if row[1] != "n"]  # without the headings
    assert len(rows) == 3 + 7
    assert rows[0][2] == rows[3][2]  # WT Dice of the evaluation and of no modality missing


def test_flips_say_their_cost_and_are_recorded(runs, medtl) -> None:
    out, err = medtl("evaluate", runs["plain"], "--tta", "--json", *CPU)
    assert "8 passes of the network per window instead of one" in err
    found, plain = json.loads(out), json.loads((runs["plain"] / "summary.json").read_text())
    assert (found["data"]["flips"], plain["data"]["flips"]) == (True, False)
    assert found["scratch"]["WT"]["dice"]["mean"] != plain["scratch"]["WT"]["dice"]["mean"]


def test_flipped_predictions_score_as_flipped_evaluation(runs, phantom, medtl, tmp_path) -> None:
    run = runs["plain"]
    medtl("predict", run, "-i", phantom, "-o", tmp_path, "--tta", "--quiet", *CPU)
    found = json.loads(medtl("evaluate", run, "--tta", "--json", "--quiet", *CPU)[0])
    test = json.loads((run / "splits.json").read_text())[0]["test"]
    dice = []
    for case in Brats().cases(phantom).cases:
        if case.id in test:
            maps = (tmp_path / f"{case.id}.nii.gz", case.target.path)
            a, b = (np.asanyarray(nib.load(path).dataobj) > 0 for path in maps)
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert found["scratch"]["WT"]["dice"]["mean"] == pytest.approx(np.mean(dice))


def test_metrics_csv_holds_lesions_and_volumes(runs) -> None:
    with (runs["plain"] / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((runs["plain"] / "summary.json").read_text())["scratch"]
    for region in REGIONS:
        own = [row for row in rows if row["region"] == region]
        for metric in ("lesion_dice", "lesion_f1", "true_lesions", "truth_ml", "volume_error_ml"):
            mean = np.mean([float(row[metric]) for row in own])
            assert summary[region][metric]["mean"] == pytest.approx(mean)
            assert summary[region][metric]["n"] == len(own)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--modality-dropout", "1.5"), "--modality-dropout: must be less than or equal to 1"),
        (("--modality-dropout", "-0.1"), "--modality-dropout: must be greater than or equal to 0"),
        (("--modality-dropout", "0.5", "--dst", "t1"), "every stage has one modality alone"),
    ],
)
def test_dropout_that_cannot_be_is_one_line(phantom, medtl, words, told) -> None:
    words = ("train", "brats", "--data", phantom, *TINY, "--dry-run", *words)
    _, err = medtl(*words, code=2)
    assert told in err.splitlines()[-1] and "Traceback" not in err


def test_run_with_dropout_resumes_with_its_own(runs, phantom, medtl, tmp_path) -> None:
    settings = (runs["robust"] / "config.yaml").read_text()
    assert "modality_dropout: 0.9" in settings
    (tmp_path / "config.yaml").write_text(settings)
    words = ("train", "--resume", tmp_path, "--modality-dropout", "0.1")
    assert "drop --modality-dropout" in medtl(*words, code=2)[1]
