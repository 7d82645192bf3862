"""The folder of a measured shift: rows as JSON and CSV, figures with their points."""

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
    """Write rows, features one by one, the attribution, settings and figures; the folder."""
    run = start_run(task, "shift", out)
    run.write_json("config.json", config)
    run.write_json(f"{ROWS}.json", shift.to_json())
    write_csv(run.path / f"{ROWS}.csv", shift)
    if shift.by_feature:
        _write_features(run.path / "features.csv", shift)
    if shift.attribution:
        told = {"verdict": shift.verdict, "advice": list(shift.advice)}
        run.write_json(
            "attribution.json",
            {"synthetic": shift.synthetic} | told | shift.attribution.to_json(),
        )
    shift.draw(run.path / "figures")
    return run.path


def _write_features(path: Path, shift: Shift) -> None:
    """Every feature by itself: the Kolmogorov-Smirnov statistic, and p corrected for them all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("features", "feature", "ks", "p_adjusted", "synthetic"))
    for features, found in shift.by_feature.items():
        for each in found:
            numbers = f"{each.value:.6g}", f"{each.p:.6g}"
            writer.writerow((features, each.name, *numbers, shift.synthetic))
    write_text(path, text.getvalue())


def write_csv(path: Path, shift: Shift) -> None:
    """One line per row; empty cells where there is no value."""
    text = io.StringIO()
    columns = [column.name for column in fields(ShiftRow)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(shift.to_json())
    write_text(path, text.getvalue())
