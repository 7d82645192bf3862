"""What the studies take from the benchmarks: the machine's description, and the real cases."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from machine import describe  # noqa: E402
from real_cases import add_data_option, medtl, shared_data, sorted_cases, train  # noqa: E402

__all__ = ["ROOT", "add_data_option", "describe", "medtl", "shared_data", "sorted_cases", "train"]


def train_once(out: Path, task: str, **settings: Any) -> None:
    """`api.train`, unless ``out`` holds the finished run; one that was stopped begins anew."""
    from medtl import api
    from medtl.runtime.run_folder import SUMMARY

    if not (out / SUMMARY).is_file():
        shutil.rmtree(out, ignore_errors=True)
        api.train(task, out=out, **settings)
