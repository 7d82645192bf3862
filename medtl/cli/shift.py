"""``medtl shift``: how far two domains are apart, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import choice, component
from medtl.cli.options import Data, Dst, IgnoreColumn, Json, Labels, Quiet, Series, Src, Task


def shift(
    task: Task = "brats",
    data: Data = None,
    src: Src = None,
    dst: Dst = None,
    across: Annotated[
        str | None,
        typer.Option(
            help="Compare all sites (or parts) of --src with each other: site or part.",
            autocompletion=choice("site", "part"),
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Features to compare, e.g. appearance,lines (medtl list features).",
            autocompletion=component("features"),
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Distances, e.g. mmd,energy (medtl list shift-metrics).",
            autocompletion=component("shift_metrics"),
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option(metavar="N", help="Number of random permutations.")
    ] = 999,
    rows: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Maximum rows per image (lines, patches, slices)."),
    ] = None,
    attribute: Annotated[
        bool, typer.Option("--attribute/--no-attribute", help="Explain what kind of shift it is.")
    ] = True,
    power: Annotated[
        bool,
        typer.Option("--power", help="Also tell how many patients find such a shift."),
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="Trained run or stage, for --features activations.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Block or module of the network of --run.")
    ] = None,
    labels: Labels = None,
    ignore_column: IgnoreColumn = None,
    series: Series = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Random seed of the permutations.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New folder; default: runs/TASK-shift-N (none with --json)."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the shift between two domains, with patient-level permutation tests."""
    from medtl.runtime.files import check_there
    from medtl.runtime.run_folder import check_out
    from medtl.shift.request import build_request

    writes = out is not None or not json
    if writes:
        check_out(out)
    check_there(data)
    request = build_request(
        {
            "task": task,
            "data": data,
            "src": src,
            "dst": dst,
            "across": across,
            "features": features,
            "metrics": metrics,
            "permutations": permutations,
            "rows_per_image": rows,
            "labels": labels,
            "ignore_column": ignore_column,
            "series": series,
            "attribute": attribute,
            "power": power,
            "run": run,
            "layer": layer,
            "seed": seed,
        }
    )
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.shift.report.write import write_shift
    from medtl.shift.run import measure_shift

    reporter = Reporter(quiet)
    found = measure_shift(request, load_catalog(), reporter)
    for note in found.notes:
        reporter.say(note)
    if json:
        rows_and_power = {"rows": found.rows(), "power": found.power and found.power.to_json()}
        print_json(rows_and_power if power else found.to_json())
    else:
        for table in found.tables():
            reporter.show(table)
        plan = [found.power.sentence] if found.power else []
        reporter.say(" ".join((found.verdict, *found.advice, *plan)))
    if writes:
        folder = write_shift(found, task, out, request.to_json(), reporter)
        reporter.say(f"written to {folder}")
