"""A data set in BIDS passes the validator, trains, and is predicted on."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bids import write_bids
from terminal import Terminal

SMALL = ("--width", "4", "--steps", "2", "--device", "cpu", "--set=patch_size=32,32,32", "-q")


@pytest.fixture
def root(small_phantom: Callable[..., Path], tmp_path: Path) -> Path:
    return write_bids(small_phantom(cases=6, size=24, sites=1, seed=0), tmp_path / "bids")


def test_trains_from_one_site_to_the_other(root: Path, tmp_path: Path, medtl: Terminal) -> None:
    run, sites = tmp_path / "run", ("--src", "site:A", "--dst", "site:B")
    words = (*SMALL, "--network", "unet", "--transforms", "mr", "--spacing", "7.5")
    medtl("train", "segmentation", "--data", root, *sites, *words, "--strategy", "fine-tune",
          "--set=test_fraction=0.4", "--out", run)  # fmt: skip
    with (run / "metrics.csv").open(newline="") as file:
        scored = {row["case"] for row in csv.DictReader(file) if row["stage"] == "fine-tune"}
    assert scored
    assert scored <= {"sub-01", "sub-03", "sub-05"}  # of site B
    shutil.rmtree(root / "derivatives")
    medtl("predict", run, "-i", root, "-o", tmp_path / "out", "-q", "--device", "cpu")
    maps = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert maps == [f"sub-{n:02}.nii.gz" for n in range(1, 7)]


def test_passes_the_validator(root: Path) -> None:
    """``npm install --global bids-validator@1.14.14``"""
    program = shutil.which("bids-validator")
    if program is None:
        pytest.skip("bids-validator (npm) is not installed")
    done = subprocess.run([program, "--json", root], capture_output=True, text=True)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["issues"]["errors"] == []
