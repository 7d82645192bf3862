"""What the studies take from the benchmarks: the machine's description, and the real cases."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from machine import describe  # noqa: E402
from real_cases import add_data_option, medtl, shared_data, sorted_cases, train  # noqa: E402

__all__ = ["ROOT", "add_data_option", "describe", "medtl", "shared_data", "sorted_cases", "train"]
