"""``medtl shift``: how far two domains are apart, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import choice, component


def shift(
    task: Annotated[
        str,
        typer.Argument(
            help="Task, e.g. brats (medtl list tasks).", autocompletion=component("tasks")
        ),
    ] = "brats",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder (or list) of cases; without it the synthetic phantom."),
    ] = None,
    src: Annotated[str | None, typer.Option(help="Source domain, e.g. flair,t1ce.")] = None,
    dst: Annotated[
        str | None,
        typer.Option(help="Target domain, e.g. t1,t2, site:CS or data=DIR,part:Testing."),
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            help="site or part: compare all those of --src with each other.",
            autocompletion=choice("site", "part"),
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="What is compared, e.g. appearance,lines (medtl list features).",
            autocompletion=component("features"),
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="How, e.g. mmd,energy (medtl list shift-metrics).",
            autocompletion=component("shift_metrics"),
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Random arrangements of the patients.")] = 999,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows per image at most, for lines, patches, slices.")
    ] = None,
    attribute: Annotated[
        bool, typer.Option("--attribute/--no-attribute", help="Say what kind of shift it is.")
    ] = True,
    run: Annotated[
        Path | None, typer.Option(help="A trained run (or its stage), for features activations.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of that run's network, a block or a module.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="New folder; else runs/TASK-shift-N (none with --json).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Measure the shift between two domains, with p-values by patient."""
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.run_folder import check_out
    from medtl.shift.report.result import tables
    from medtl.shift.report.write import write_shift
    from medtl.shift.request import build_request
    from medtl.shift.run import measure_shift

    request = build_request(
        {
            "task": task,
            "data": data,
            "src": src,
            "dst": dst,
            "across": across,
            "features": features,
            "metrics": metrics,
            "draws": draws,
            "rows_per_image": rows,
            "labels": labels,
            "attribute": attribute,
            "run": run,
            "layer": layer,
            "seed": seed,
        }
    )
    reporter = Reporter(quiet)
    writes = out is not None or not json
    if writes:
        check_out(out)
    found = measure_shift(request, load_catalog(), reporter)
    for note in found.notes:
        reporter.say(note)
    if json:
        import json as encoder

        print(encoder.dumps(found.to_json(), indent=2))
    else:
        for table in tables(found):
            reporter.show(table)
        reporter.say(" ".join((found.verdict, *found.advice)))
    if writes:
        reporter.say(f"written to {write_shift(found, task, out, request.to_json())}")
