"""``medtl evaluate RUN``: score a run's stages on cases that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import DEVICES, PRECISIONS, choice


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with labelled cases; without it the run's own.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="One stage; without it all.")] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            help="test: the run's locked cases (its own data); all (with --data).",
            autocompletion=choice("test", "all"),
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mean over mirrored windows: 8 passes, in 2-D 4.")
    ] = False,
    missing_modalities: Annotated[
        bool,
        typer.Option("--missing-modalities", help="Also score every subset of the modalities."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=choice(*DEVICES))
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16.", autocompletion=choice(*PRECISIONS))
    ] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share the cases.")] = 1,
    details: Annotated[
        bool, typer.Option("--details", help="Also the scores of each class and the calibration.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Score a run's stages, with intervals: Dice, HD95, lesions; of classes AUROC, F1 and more."""
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.run_folder import open_run

    opened, catalog = open_run(run), load_catalog()

    from medtl.evaluation.evaluate import evaluate as score
    from medtl.runtime.device import build_fabric

    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet or not fabric.is_global_zero)
    scores = score(
        opened,
        catalog,
        fabric,
        reporter,
        data=data,
        stage=stage,
        cases=cases,
        labels=labels,
        flips=flips,
        missing_modalities=missing_modalities,
    )
    if json and fabric.is_global_zero:
        import json as encoder

        print(encoder.dumps(scores.to_json(), indent=2))
    elif not json:
        for table in scores.tables(details=details):
            reporter.show(table)
        if scores.data["trained_on_synthetic"] and not scores.data["synthetic"]:
            reporter.say("warning: these models were trained on the synthetic phantom only")
