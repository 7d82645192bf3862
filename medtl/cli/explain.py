"""``medtl explain RUN``: what a trained network looks at, as figures and as scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.complete import DEVICES, choice


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    inputs: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="Folder (or list) of cases; else the run's test cases."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; without it RUN/explain/STAGE.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="One stage; without it the last of the transfer.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class or region to explain; else each case's own, the first region."
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Block whose maps are weighted; else the last with maps.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, max=64, help="Cases to show.")] = 8,
    threshold: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, help="Share of its maximum at which a map is cut for Dice."
        ),
    ] = 0.5,
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=choice(*DEVICES))
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Show what a network looks at: Grad-CAM, activations and filters.

    Where the cases have masks, the maps are scored against them: pointing game and Dice.
    """
    from medtl.catalog import load_catalog
    from medtl.config import TrainConfig, read_config
    from medtl.console import Reporter
    from medtl.errors import RunError
    from medtl.runs import CONFIG, open_run

    opened = open_run(run)
    config = read_config(opened.path / CONFIG, TrainConfig)
    catalog = load_catalog()

    from medtl.device import build_fabric
    from medtl.planning import read_cohort
    from medtl.report.tables import warned
    from medtl.saliency.explain import Wanted
    from medtl.saliency.explain import explain as write_explanation
    from medtl.saliency.localisation import localisation_table
    from medtl.scoring import pick_cases
    from medtl.strategies import CONTROL_A, CONTROL_B
    from medtl.task import bound
    from medtl.trained import finished_stages, read_stage

    finished = finished_stages(opened)
    if not finished:
        raise RunError(f"{run} has no finished stage; let medtl train end first")
    transfer = [name for name in finished if name not in (CONTROL_A, CONTROL_B)]
    reporter = Reporter(quiet)
    trained = read_stage(
        opened, stage or (transfer or finished)[-1], catalog, build_fabric(device, "fp32")
    )
    data = inputs or config.data
    scheme = labels or (None if inputs else config.labels)
    task = bound(catalog.tasks[config.task].load()(), data, scheme, trained.names)
    cohort = read_cohort(
        task,
        data,
        reporter,
        None if inputs else config.protocol,
        labels=scheme,
        required=trained.predictor.recipe.modalities,
        need_target=inputs is None,
    )
    picked = pick_cases(cohort, opened, "all" if inputs else "test")
    folder = out or opened.path / "explain" / trained.stage
    wanted = Wanted(output, layer, cases, threshold)
    found = write_explanation(
        trained, picked, wanted, folder, reporter, synthetic=cohort.synthetic, leak=cohort.leak
    )
    if json:
        import json as encoder

        print(encoder.dumps(found, indent=2))
        return
    if "localisation" in found:
        for table in warned([localisation_table(found)], cohort.leak):
            reporter.show(table)
    else:
        reporter.say(
            "no unseen case has a mask of what is explained: the maps are shown, not scored"
        )
    reporter.say(f"figures, saliency.csv and saliency.json in {folder}")
