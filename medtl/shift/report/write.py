"""Write the results of ``medtl shift``: rows as JSON and CSV, attribution, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medtl.runtime.console import Reporter
from medtl.runtime.files import filled, write_csv
from medtl.runtime.run_folder import SUMMARY, Run, start_run
from medtl.shift.report.result import Shift


def write_shift(
    shift: Shift,
    task: str,
    out: Path | None,
    config: dict[str, Any],
    reporter: Reporter,
) -> Path:
    """Write rows, single features, attribution, plan, settings and figures; returns the folder.

    Args:
        out: a new folder; None: the next free ``runs/TASK-shift-N``.
        config: the settings, for ``config.json``.
        reporter: its warnings are written, too; is told if the figures cannot be drawn.
    """
    started, rows = start_run(task, "shift", out), shift.rows()
    with filled(started.path) as partial:
        _write(shift, rows, Run(partial), config, reporter)
    return started.path


def _write(
    shift: Shift,
    rows: list[dict[str, Any]],
    run: Run,
    config: dict[str, Any],
    reporter: Reporter,
) -> None:
    run.write_json("config.json", config)
    run.write_json("shift.json", rows)
    write_csv(run.path / "shift.csv", rows[0], (row.values() for row in rows), end="\n")
    single = [
        (features, one.name, f"{one.value:.6g}", f"{one.p:.6g}", shift.synthetic)
        for features, shifts in shift.by_feature.items()
        for one in shifts
    ]
    if single:
        columns = "features", "feature", "ks", "p_adjusted", "synthetic"
        write_csv(run.path / "features.csv", columns, single, end="\n")
    if shift.attribution:
        content = {"synthetic": shift.synthetic, "verdict": shift.verdict}
        content |= {"advice": list(shift.advice)} | shift.attribution.to_json()
        run.write_json("attribution.json", content)
    if shift.power:
        run.write_json("power.json", shift.power.to_json())
    from medtl.runtime.figure_style import attempted  # matplotlib is slow to import

    with attempted("figures", reporter.warn):
        shift.draw(run.path / "figures")
    if reporter.warnings:
        run.write_json(SUMMARY, {"warnings": list(reporter.warnings)})
