"""``medtl evaluate RUN``: score the stages of runs on cases that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtl.cli.completion import choice
from medtl.cli.options import (
    Device,
    Devices,
    IgnoreColumn,
    Json,
    Labels,
    Precision,
    Quiet,
    Series,
    Tta,
)

if TYPE_CHECKING:
    from medtl.runtime.console import Reporter
    from medtl.runtime.table import Table


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folder; of several, that differ in seed or fold, also the mean."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of labelled cases; default: the run's own.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Stage to score; default: all.")] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            help="Cases to score: test (the run's locked cases) or all (of --data).",
            autocompletion=choice("test", "all"),
        ),
    ] = None,
    labels: Labels = None,
    ignore_column: IgnoreColumn = None,
    series: Series = None,
    tta: Tta = False,
    missing_modalities: Annotated[
        bool,
        typer.Option("--missing-modalities", help="Also score every subset of the modalities."),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    details: Annotated[
        bool, typer.Option("--details", help="Also the scores of each class and the calibration.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New folder for the scores of each case, and tables for papers."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a run's stages, with intervals: Dice, HD95, lesions; of classes AUROC, F1 and more."""
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.runtime.files import check_there
    from medtl.runtime.run_folder import check_out, open_run

    opened, catalog = [open_run(run) for run in runs], load_catalog()
    check_there(data)
    if out is not None:
        check_out(out)

    from medtl.evaluation.evaluate import evaluate as score
    from medtl.evaluation.several.pooled import check_alike, pool, write_scores
    from medtl.runtime.device import build_fabric

    if len(opened) > 1:
        check_alike(opened, data, cases)
    fabric = build_fabric(device, precision, devices)
    first = fabric.is_global_zero
    found = {}
    for each in opened:
        reporter = Reporter(quiet, silent=not first)
        if len(opened) > 1:
            reporter.say(f"{each.path}")
        scores = score(
            each,
            catalog,
            fabric,
            reporter,
            data=data,
            stage=stage,
            cases=cases,
            labels=labels,
            ignored=ignore_column or (),
            series=series or (),
            flips=tta,
            missing_modalities=missing_modalities,
        )
        found[str(each.path)] = scores
        _show(scores.tables(details=details), reporter, json)
    pooled = pool(found) if len(found) > 1 else None
    if pooled:
        _show(pooled.tables(), reporter, json)
    if out is not None and first:
        write_scores(out, found, (pooled or scores).tables())
        reporter.say(f"scores of each case in {out}")
    if json and first:
        print_json((pooled or scores).to_json())


def _show(tables: Sequence[Table], reporter: Reporter, json: bool) -> None:
    if not json:
        for table in tables:
            reporter.show(table)
