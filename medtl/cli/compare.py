"""``medtl compare TASK``: arms, budgets and seeds on the same splits, with verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medtl.cli.completion import component
from medtl.cli.options import Json, Quiet

_STUDY, _TRAINING, _OUTPUT = "Study", "Training, the same for all arms", "Output"


def compare(
    task: Annotated[
        str | None, typer.Argument(help="Task, e.g. brats.", autocompletion=component("tasks"))
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the study.", rich_help_panel=_STUDY)
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies to compare, e.g. fine-tune,linear-probe.",
            rich_help_panel=_STUDY,
            autocompletion=component("strategies"),
        ),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(
            help="Networks, e.g. unet,plain-unet; default: the task's.",
            rich_help_panel=_STUDY,
            autocompletion=component("networks"),
        ),
    ] = None,
    inits: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from, instead of training on --src.", rich_help_panel=_STUDY
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Labelled target patients, e.g. 5,10,all; default: all.", rich_help_panel=_STUDY
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs of each arm; default: 3.", rich_help_panel=_STUDY)
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Folds that test each patient once; default: one test set.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Largest difference that does not matter.", rich_help_panel=_STUDY),
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option(
            help="Arms to leave out: zero-shot, joint, control-b.", rich_help_panel=_STUDY
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder or list of cases.", rich_help_panel=_TRAINING),
    ] = None,
    src: Annotated[
        str | None, typer.Option(help="Source domain.", rich_help_panel=_TRAINING)
    ] = None,
    dst: Annotated[
        str | None, typer.Option(help="Target domain.", rich_help_panel=_TRAINING)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps on the source, and again on the target.", rich_help_panel=_TRAINING
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=_TRAINING)
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of medtl train, e.g. lr=0.001.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the study; one that was begun is gone on with.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=1024, help="Runs at once.", rich_help_panel=_OUTPUT)
    ] = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show arms, differences and time only.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare transfer strategies with controls on the same splits: did the transfer help?"""
    from medtl.config import given_settings
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.study.config import resolve_study

    reporter = Reporter(quiet or json)
    where = None if data is None else str(data)
    given: dict[str, Any] = {
        "data": where,
        "src": src,
        "dst": dst,
        "steps": steps,
        "device": device,
    }
    settings = given_settings(sets or [])
    settings |= {name: value for name, value in given.items() if value is not None}
    study = resolve_study(
        config,
        {
            "task": task,
            "strategies": strategies,
            "networks": networks,
            "inits": inits,
            "budgets": budgets,
            "seeds": seeds,
            "folds": folds,
            "margin": margin,
            "skip": skip,
            "settings": settings,
        },
    )
    catalog = load_catalog()
    catalog.tasks.full_name(study.task)

    from medtl.study.compare import compare as carry_out
    from medtl.study.compare import plan

    if dry_run:
        plan(study, catalog, reporter)
        return
    found = carry_out(study, out, catalog, reporter, jobs=jobs)
    if json:
        print_json(found.to_json())
