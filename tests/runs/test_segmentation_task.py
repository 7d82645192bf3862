"""Training on listed CT, and on a fold of the list. Axes: I J K voxels."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids import write_bids
from terminal import Terminal, exit_code
from tomograms import list_tomograms, tomogram

from medtl.data.tasks.fingerprint import window
from medtl.transfer.weights import BEST, read_weights

SMALL = ("--width", "4", "--steps", "2", "--device", "cpu", "--set=patch_size=32,32,32")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return list_tomograms(tmp_path)


def test_planned_ct_trains_and_predicts_with_its_own_window(
    listed: Path, tmp_path: Path, medtl: Terminal
) -> None:
    run = tmp_path / "run"
    words = (*SMALL, "--set=val_fraction=0", "--fold", "2", "--out", run)
    told = "".join(medtl("train", "segmentation", "--data", listed, *words))
    assert "Fingerprint" in told and "fold 2 of the data's own list" in told
    assert "as given" in told
    assert json.loads((run / "splits.json").read_text())[0]["test"] == ["c2", "c5"]
    medtl("train", "--config", run / "config.yaml", "--dry-run", "-q")  # as the docs say
    metadata = read_weights(run / "scratch" / BEST).metadata
    cases = [tomogram(tmp_path, f"c{n}", 10.0 * n) for n in (0, 1, 3, 4)]
    expected = pytest.approx(window(cases, "ct"))
    assert metadata["preprocessing"]["windows"]["ct"] == expected
    medtl("predict", run, "-i", listed, "-o", tmp_path / "out", "-q", "--device", "cpu")
    found = np.asanyarray(nib.load(tmp_path / "out" / "c0.nii.gz").dataobj)
    assert set(np.unique(found)) <= {0, 2}


def test_stopped_fold_is_resumed_with_its_split(
    listed: Path, tmp_path: Path, medtl: Terminal
) -> None:
    run = tmp_path / "run"
    words = (*SMALL, "--folds", "3", "--fold", "1", "--out", run, "-q")
    medtl("train", "segmentation", "--data", listed, *words)
    before = (run / "splits.json").read_text()
    weights = (run / "scratch" / BEST).read_bytes()
    (run / "summary.json").unlink()
    (run / "scratch" / "checkpoint_last" / "weights.safetensors").unlink()
    medtl("train", "--resume", run, "-q")
    assert (run / "splits.json").read_text() == before
    assert (run / "scratch" / BEST).read_bytes() == weights


def test_a_column_that_is_left_out_is_left_out_by_every_command(
    listed: Path, tmp_path: Path, medtl: Terminal, capfd: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(listed.read_text())
    for number, entry in enumerate(content["training"]):
        entry["anon_mrn"] = f"m{number // 2}"
    listed.write_text(json.dumps(content))
    run, words = tmp_path / "run", (*SMALL, "--fold", "2", "-q")
    data, without = ("--data", listed), ("--ignore-column", "anon_mrn")
    assert exit_code("train", "segmentation", *data, *words, "--out", run) == 2
    assert "anon_mrn looks like patient" in capfd.readouterr().err
    medtl("train", "segmentation", *data, *without, *words, "--out", run)
    medtl("train", "--config", run / "config.yaml", "--dry-run", "-q")
    medtl("evaluate", run, "-q")
    medtl("predict", run, "-i", listed, *without, "-o", tmp_path / "out", "-q")


# --- BIDS ---------------------------------------------------------------------------------

TINY_STEPS = ("--width", "4", "--steps", "2", "--device", "cpu", "--set=patch_size=32,32,32", "-q")


@pytest.fixture
def bids(small_phantom: Callable[..., Path], tmp_path: Path) -> Path:
    return write_bids(small_phantom(cases=6, size=24, sites=1, seed=0), tmp_path / "bids")


def test_trains_from_one_site_to_the_other(bids: Path, tmp_path: Path, medtl: Terminal) -> None:
    run, sites = tmp_path / "run", ("--src", "site:A", "--dst", "site:B")
    words = (*TINY_STEPS, "--network", "unet", "--transforms", "mr", "--spacing", "7.5")
    medtl("train", "segmentation", "--data", bids, *sites, *words, "--strategy", "fine-tune",
          "--set=test_fraction=0.4", "--out", run)  # fmt: skip
    with (run / "metrics.csv").open(newline="") as file:
        scored = {row["case"] for row in csv.DictReader(file) if row["stage"] == "fine-tune"}
    assert scored
    assert scored <= {"sub-01", "sub-03", "sub-05"}  # of site B
    shutil.rmtree(bids / "derivatives")
    medtl("predict", run, "-i", bids, "-o", tmp_path / "out", "-q", "--device", "cpu")
    maps = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert maps == [f"sub-{n:02}.nii.gz" for n in range(1, 7)]


def test_passes_the_validator(bids: Path) -> None:
    """``npm install --global bids-validator@1.14.14``"""
    program = shutil.which("bids-validator")
    if program is None:
        pytest.skip("bids-validator (npm) is not installed")
    done = subprocess.run([program, "--json", bids], capture_output=True, text=True)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["issues"]["errors"] == []
