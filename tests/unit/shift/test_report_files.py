"""The files of ``medtl shift``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medtl.runtime.console import Reporter
from medtl.shift.report.write import write_shift


@pytest.mark.parametrize("early", [(), ("2 images are left out",)])
@pytest.mark.parametrize("fails", [False, True])
def test_warnings_stand_beside_the_rows(
    tmp_path: Path, early: tuple[str, ...], fails: bool
) -> None:
    def draw(folder: Path) -> None:
        if fails:
            raise ValueError("no font")

    shift: Any = SimpleNamespace(
        rows=lambda: [{"value": 1.0}], by_feature={}, attribution=None, power=None, draw=draw
    )
    reporter = Reporter(silent=True)
    for text in early:
        reporter.warn(text)
    folder = write_shift(shift, "brats", tmp_path / "out", {}, reporter)
    assert json.loads((folder / "shift.json").read_text()) == [{"value": 1.0}]
    path = folder / "summary.json"
    kept = json.loads(path.read_text())["warnings"] if path.exists() else []
    assert kept[: len(early)] == list(early) and len(kept) == len(early) + fails
