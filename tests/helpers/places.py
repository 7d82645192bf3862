"""Where things lie that tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
KILLED = ROOT / "benchmarks" / "damage" / "killed.py"


def shared_data(*names: str) -> Path:
    """A file or folder of real data; the test is skipped where there is none."""
    default = ROOT.parent / "shared" / "data"
    path = Path(os.environ.get("MEDTL_SHARED_DATA", default)).joinpath(*names)
    if not path.exists():
        pytest.skip(f"no real data at {path} (MEDTL_SHARED_DATA)")
    return path
