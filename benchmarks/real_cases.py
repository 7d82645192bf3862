"""What the benchmarks on real BraTS cases share: where the cases are, and training on some."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from medtl.data.case import Case
from medtl_brats.task import Brats

ROOT = Path(__file__).resolve().parents[1]


def shared_data() -> Path:
    return Path(os.environ.get("MEDTL_SHARED_DATA", ROOT.parent / "shared" / "data"))


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=shared_data() / "brats")


def sorted_cases(data: Path) -> list[Case]:
    """The cases by name; the program ends where there is no such folder."""
    if not data.is_dir():
        sys.exit(f"{data} is not there; set MEDTL_SHARED_DATA or give --data")
    return sorted(Brats().cases(data).cases, key=lambda case: case.id)


def train(data: Path, left_out: Sequence[str], out: Path, words: Sequence[str]) -> None:
    """``medtl train brats`` on all cases but some, which are scored; nobody is validated on.

    A run that was stopped goes on."""
    if (out / "config.yaml").is_file():
        medtl(["train", "--resume", str(out)])
        return
    test = ["--test-cases", ",".join(left_out)] if left_out else ["--set", "test_fraction=0"]
    command = ["train", "brats", "--data", str(data), *test, "--set", "val_fraction=0"]
    medtl([*command, "--out", str(out), *words])


def medtl(words: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "medtl", *words], check=True)
