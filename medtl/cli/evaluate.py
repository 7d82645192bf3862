"""``medtl evaluate RUN``: score a run's stages on cases that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
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
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a run's stages, with intervals: Dice, HD95, lesions; of classes AUROC, F1 and more."""
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.runtime.files import check_there
    from medtl.runtime.run_folder import open_run

    opened, catalog = open_run(run), load_catalog()
    check_there(data)

    from medtl.evaluation.evaluate import evaluate as score
    from medtl.runtime.device import build_fabric

    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet, silent=not fabric.is_global_zero)
    scores = score(
        opened,
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
    if json and fabric.is_global_zero:
        print_json(scores.to_json())
    elif not json:
        for table in scores.tables(details=details):
            reporter.show(table)
