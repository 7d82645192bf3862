"""``medtl explain RUN``: what a trained network looks at, as figures and as scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtl.cli.options import Device, IgnoreColumn, Inputs, Json, Labels, Quiet, Series

if TYPE_CHECKING:
    from medtl.api import Explanation


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    inputs: Inputs = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the figures; default: RUN/explain/STAGE."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Stage to explain; default: the last of the transfer.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Class or region to explain; default: the case's class, or the first region.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Block whose activation maps are weighted; default: the last one that has maps."
        ),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Number of cases to show.")
    ] = 8,
    threshold: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            metavar="SHARE",
            help="Threshold of a map for Dice, as a share of its maximum.",
        ),
    ] = 0.5,
    labels: Labels = None,
    ignore_column: IgnoreColumn = None,
    series: Series = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what a network looks at: Grad-CAM, activations and filters.

    Where the cases have masks, the maps are scored against them: pointing game and Dice.
    """
    from medtl import api

    found = api.explain(
        run,
        inputs=inputs,
        out=out,
        stage=stage,
        output=output,
        layer=layer,
        cases=cases,
        threshold=threshold,
        labels=labels,
        ignore_column=ignore_column or (),
        series=series or (),
        device=device,
        verbose=not quiet,
    )
    _show(found, json=json, quiet=quiet)


def _show(found: Explanation, *, json: bool, quiet: bool) -> None:
    from medtl.runtime.console import Reporter, print_json

    reporter = Reporter(quiet)
    if quiet:  # else the call has printed them
        for note in found.notes:
            if note.startswith("warning: "):
                reporter.warn(note.removeprefix("warning: "))
    if json:
        print_json(found.to_json())
        return
    for table in found.tables():
        reporter.show(table)
    reporter.say(f"figures, saliency.csv and saliency.json in {found.folder}")
