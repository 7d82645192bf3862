"""Write the results of ``medtl shift``: rows as JSON and CSV, attribution, figures."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

from medtl.runtime.run_folder import start_run, write_text
from medtl.shift.report.result import Shift
from medtl.shift.report.row import ShiftRow

ROWS = "shift"


def write_shift(shift: Shift, task: str, out: Path | None, config: dict[str, Any]) -> Path:
    """Write rows, single features, attribution, settings and figures; returns the folder.

    ``out`` None: the next free ``runs/TASK-shift-N``.
    """
    run = start_run(task, "shift", out)
    run.write_json("config.json", config)
    run.write_json(f"{ROWS}.json", shift.to_json())
    write_csv(run.path / f"{ROWS}.csv", shift)
    if shift.by_feature:
        _write_features(run.path / "features.csv", shift)
    if shift.attribution:
        content = {"synthetic": shift.synthetic, "verdict": shift.verdict}
        content |= {"advice": list(shift.advice)} | shift.attribution.to_json()
        run.write_json("attribution.json", content)
    shift.draw(run.path / "figures")
    return run.path


def _write_features(path: Path, shift: Shift) -> None:
    """Each feature's Kolmogorov-Smirnov statistic, with p corrected for all features."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("features", "feature", "ks", "p_adjusted", "synthetic"))
    for features, shifts in shift.by_feature.items():
        for one in shifts:
            numbers = f"{one.value:.6g}", f"{one.p:.6g}"
            writer.writerow((features, one.name, *numbers, shift.synthetic))
    write_text(path, text.getvalue())


def write_csv(path: Path, shift: Shift) -> None:
    """One line per row; cells without a value are empty."""
    text = io.StringIO()
    columns = [column.name for column in fields(ShiftRow)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(shift.to_json())
    write_text(path, text.getvalue())
