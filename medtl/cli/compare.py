"""``medtl compare TASK``: arms, budgets and seeds on the same splits, with verdicts.

``medtl compare RUN RUN`` compares finished runs. ``medtl compare --config RECIPE`` carries out a
published study twice, as published and soundly.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Annotated, Any

import typer

from medtl.cli.completion import choice, component
from medtl.cli.options import Json, Quiet
from medtl.cli.recipes import USEFUL, carry_out_recipe, recipe_file

_STUDY, _TRAINING, _OUTPUT = "Study", "Training, the same for all arms", "Output"
_WHERE = "Where it runs"

#: Options that finished runs have a use for; the others are those of a study.
_OF_RUNS = ("task", "margin", "json", "quiet")


def compare(
    context: typer.Context,
    task: Annotated[
        list[str] | None,
        typer.Argument(
            help="Task, e.g. brats; or two finished runs or more, whose arms are compared.",
            autocompletion=component("tasks"),
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of a study or a recipe.", rich_help_panel=_STUDY),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Of a recipe: its quick settings, on phantoms, within a minute.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
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
        int | None,
        typer.Option(
            help="Runs of each arm, in each budget and fold; default: 3.", rich_help_panel=_STUDY
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Folds that test each patient once; default: one test set.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    leave_site_out: Annotated[
        bool,
        typer.Option(
            "--leave-site-out",
            help="Every site is the target in turn, without its labels.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Largest difference that does not matter; with --power: the difference to find.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Validation score to count steps to; default: control A's.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option(
            help="Arms to leave out: zero-shot, joint, control-b.", rich_help_panel=_STUDY
        ),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            help="Trials of each arm, which choose rate, weight decay and depth by validation.",
            rich_help_panel=_STUDY,
            metavar="N",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder or list of cases, of a recipe the folder above its sets; "
            "default: a synthetic phantom.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of case and group (medtl audit): a split keeps a group whole.",
            rich_help_panel=_TRAINING,
        ),
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
        int, typer.Option(min=1, max=1024, help="Runs at once.", rich_help_panel=_WHERE)
    ] = 1,
    executor: Annotated[
        str,
        typer.Option(
            help="local: processes; slurm: jobs.",
            rich_help_panel=_WHERE,
            autocompletion=choice("local", "slurm"),
        ),
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Option of the jobs, e.g. partition=gpu, time=120 (minutes), gpus_per_node=1.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the trials of --tune, for several machines; default: a file.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    power: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="Tell how many patients and seeds find --margin, from the scores of a study.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            help="With --power: width of an interval; default: twice --margin.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    similarity: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="Measure how alike the arms of a study represent the test images (CKA).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    transferability: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="Measure what the source's features tell of the target (LogME, H-score).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show arms, differences and time only.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare transfer strategies with controls on the same splits: did the transfer help?"""
    from medtl.cli.errors import SOME_FAILED
    from medtl.config import given_settings
    from medtl.errors import ConfigError
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.study.config import resolve_study
    from medtl.study.folder import begun_file

    reporter = Reporter(quiet or json)
    if paths := _runs(task or []):
        _check_options(context, _OF_RUNS, "compare finished runs")
        from medtl.study.finished.comparison import compare_runs

        compared = compare_runs(paths, margin=margin)
        for table in compared.tables():
            reporter.show(table)
        if json:
            print_json(compared.to_json())
        return 0
    if power:
        _check_options(context, ("power", "width", *_OF_RUNS[1:]), "plan the next study")
    elif width is not None:
        raise ConfigError("--width is for planning; give --power STUDY with it")
    asked = {"power": power, "similarity": similarity, "transferability": transferability}
    if any(asked.values()):
        from medtl.study.ask import ask

        for answer in ask(asked, margin, width, device or "auto", reporter):
            for table in answer.tables():
                reporter.show(table)
            if json:
                print_json(answer.to_json())
        return 0
    given: dict[str, Any] = {
        "data": None if data is None else str(data),
        "groups": None if groups is None else str(groups),
        "src": src,
        "dst": dst,
        "steps": steps,
        "device": device,
    }
    settings = given_settings(sets or [])
    settings |= {name: value for name, value in given.items() if value is not None}
    if recipe := recipe_file(config, out, named=bool(task), quick=quick):
        _check_options(context, USEFUL, "carry out a recipe")
        return carry_out_recipe(
            recipe,
            settings,
            quick=quick,
            out=out,
            jobs=jobs,
            executor=executor,
            slurm=slurm or [],
            dry_run=dry_run,
            json=json,
            quiet=quiet,
        )
    study = resolve_study(
        config or (None if task else begun_file(out)),
        {
            "task": task[0] if task else None,
            "strategies": strategies,
            "networks": networks,
            "inits": inits,
            "budgets": budgets,
            "seeds": seeds,
            "folds": folds,
            "leave_site_out": leave_site_out or None,
            "margin": margin,
            "target": target,
            "skip": skip,
            "tune": tune,
            "settings": settings,
        },
    )
    catalog = load_catalog()
    catalog.tasks.full_name(study.task)

    from medtl.study.compare import compare as carry_out
    from medtl.study.compare import plan
    from medtl.study.executors import choose_executor
    from medtl.study.slurm import read_options

    execute = choose_executor(executor, catalog, jobs=jobs, slurm=read_options(slurm or []))
    if dry_run:
        planned = plan(study, catalog, reporter)
        if json:
            print_json(planned.to_json())
        return 0
    found = carry_out(study, out, catalog, reporter, execute, storage)
    if json:
        print_json(found.to_json())
    return SOME_FAILED if found.failed else 0


def _runs(words: Sequence[str]) -> list[Path]:
    """The folders of runs that the words name; none where they name a task, or nothing."""
    from medtl.errors import ConfigError
    from medtl.runtime.run_folder import CONFIG

    # Not every shell writes out what stands for several names.
    every = [sorted(glob(word)) or [word] if has_magic(word) else [word] for word in words]
    paths = [Path(name) for names in every for name in names]
    if len(paths) == 1 and not (paths[0] / CONFIG).is_file():
        return []
    for path in paths:
        if not path.exists() and path.name == str(path):
            raise ConfigError(f"{path} is no run folder; name one task, or the folders of runs")
    return paths


def _check_options(context: typer.Context, useful: Sequence[str], what: str) -> None:
    """Raises ConfigError for an option of a study, for which there is no use."""
    from medtl.errors import ConfigError

    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in useful and source is not None and source.name == "COMMANDLINE":
            name = max(option.opts, key=len)
            raise ConfigError(f"{name} is for the study of a task; drop it to {what}")
