"""``medtl train TASK``: from words to a TrainConfig; the rest is ``medtl.training.run``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from medtl.cli.completion import choice, component
from medtl.cli.errors import notice
from medtl.cli.options import Quiet
from medtl.config import OUTPUT, RENAMED, TrainConfig, option_name, option_of, resolve

KEYWORD = inspect.Parameter.KEYWORD_ONLY


def train(
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. patch_size=96,96,96."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", rich_help_panel=OUTPUT, help="Continue an interrupted run."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=OUTPUT, help="Check the data and print the plan only."
        ),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile", rich_help_panel=OUTPUT, help="Profile the time of training steps."
        ),
    ] = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Train a task with a transfer strategy and score it on locked test patients."""
    from medtl.errors import ConfigError
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.run_folder import Run, check_out, open_run
    from medtl.training.launch import going_on, launch, requeued

    reporter = Reporter(quiet)
    if profile and dry_run:
        raise ConfigError("--profile measures steps of training; drop --dry-run")
    if resume and (config or sets):
        raise ConfigError("--resume goes on with the run's own settings; drop --config and --set")
    for key in {text.partition("=")[0] for text in sets or ()} & set(RENAMED):
        notice(f"--set {key} is now --set {RENAMED[key]}")
    out = settings["out"]
    run = open_run(resume) if resume else Run(out) if out and requeued(out) else None
    if run is None:
        resolved = resolve(file=config, sets=sets or [], options=settings)
        check_out(resolved.out)
    else:
        own = going_on(run, settings if resume else {})
        if own is None:
            reporter.say(f"{run.path} is finished: there is nothing to go on with")
            return
        resolved = own
    launch(resolved, load_catalog(), reporter, run, dry_run=dry_run, profile=profile)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """A setting as Typer sees it: converted to a number, a path or text; TrainConfig checks it."""
    option = option_of(field)
    parts: list[Any] = [field.annotation]
    for part in parts:  # Literal["a"] | None -> Literal["a"] | None, Literal["a"], None, "a"
        parts += get_args(part)
    words = [part for part in parts if isinstance(part, str)]
    complete = component(option["kind"]) if option["kind"] else choice(*words) if words else None
    simple = next((part for part in parts if part in (int, float, bool, Path)), str)
    if any(get_origin(part) is tuple for part in parts):  # one number or several
        simple = str
    many = any(get_origin(part) is dict for part in parts)
    info = (
        typer.Argument(None, help=field.description, autocompletion=complete)
        if name == "task"
        else typer.Option(
            None,
            *(option["names"] or [option_name(name)]),
            help=field.description,
            metavar=option["metavar"] or None,
            rich_help_panel=option["group"],
            autocompletion=complete,
        )
    )
    kind: Any = list[str] if many else simple
    return inspect.Parameter(name, KEYWORD, default=info, annotation=kind | None)


#: The settings that have a group of options, then what ``train`` itself takes.
train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *(
            _parameter(name, field)
            for name, field in TrainConfig.model_fields.items()
            if name == "task" or option_of(field)["group"]
        ),
        *(
            own.replace(kind=KEYWORD)
            for own in inspect.signature(train, eval_str=True).parameters.values()
            if own.name != "settings"
        ),
    ]
)
