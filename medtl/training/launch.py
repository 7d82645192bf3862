"""Start or resume training: from settings to a plan and, unless it is a dry run, a finished run.

The names of components are checked before torch is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.config import (
    HARDWARE_SETTINGS,
    TrainConfig,
    changed,
    kept_settings,
    option_name,
    read_config,
)
from medtl.errors import ConfigError, Interrupted, shown
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.files import check_there
from medtl.runtime.lock import refuse_held
from medtl.runtime.records import Began, checked
from medtl.runtime.run_folder import CONFIG, ENVIRONMENT, SPLITS, SUMMARY, Run

if TYPE_CHECKING:
    from medtl.training.preview import Preview


#: Settings that change no weight, so they may differ from the run's. The data may have moved.
CHANGEABLE = (*HARDWARE_SETTINGS, "data")


def check_names(config: TrainConfig, catalog: Catalog) -> None:
    """Check task, components and path of the data before torch is imported, which takes seconds.

    Raises:
        DataError: there is no such data.
        UnknownNameError: no plugin offers a component.
        ConfigError: no task is named.
    """
    for registry, name in (
        (catalog.tasks, config.task or None),
        (catalog.strategies, config.strategy),
        (catalog.networks, config.network),
        (catalog.transforms, config.transforms),
        (catalog.harmonisers, config.harmonise),
        (catalog.losses, config.loss),
        (catalog.initialisers, config.initialiser),
    ):
        if name is not None:
            registry.full_name(name)
    if not config.task:
        known = sorted({name.rpartition(":")[2] for name in catalog.tasks})
        raise ConfigError(
            f"name a task, for example medtl train {known[0]}; there are {', '.join(known)}"
            if known
            else "no plugin offers a task; see medtl plugins list"
        )
    check_there(config.data)


def launch(
    config: TrainConfig,
    catalog: Catalog,
    reporter: Reporter,
    run: Run | None = None,
    *,
    dry_run: bool = False,
    profile: bool = False,
) -> tuple[Preview, Run | None]:
    """Plan, report the plan, and train; only the first of several processes reports.

    Args:
        run: the unfinished run to go on with; None: a new one.
        dry_run: only plan.
        profile: measure where the time of the first stage's steps goes.

    Returns:
        What was decided before the first step, and the run; None after a dry run.

    Raises:
        Interrupted: a signal came; it says how to go on.
    """
    check_names(config, catalog)
    with _interruptible(run):
        from medtl.runtime.device import build_fabric
        from medtl.training.plan import make_plan
        from medtl.training.preview import show_plan
        from medtl.training.run import run_plan

        fabric = build_fabric(config.device, config.precision, config.devices, config.num_nodes)
        reporter.silent = reporter.silent or not fabric.is_global_zero
        if config.network:
            for notice in catalog.networks.notices(config.network, config.options):
                reporter.say(notice)
        plan = make_plan(config, catalog, reporter, fabric.world_size)
        preview = show_plan(plan, catalog, fabric, reporter)
        if dry_run:
            return preview, None
        out = run or config.out
        return preview, run_plan(preview.plan, catalog, fabric, reporter, out, profile=profile)


@contextmanager
def _interruptible(run: Run | None) -> Iterator[None]:
    """Say how to go on after a signal that comes before there is a run folder."""
    try:
        yield
    except KeyboardInterrupt:
        again = f"go on with: medtl train --resume {run.path}" if run else "give the command again"
        raise Interrupted(f"stopped before training began; {again}") from None


def going_on(run: Run, options: Mapping[str, Any]) -> TrainConfig | None:
    """The settings to go on with; None for a finished run.

    ``options`` are those of the command line, None if not given.

    Raises:
        ConfigError: an option contradicts the run.
        RunError: another process is working on it.
    """
    finished = run.has(SUMMARY)
    if not finished:
        run.check_links()
        refuse_held(run.path)
    config = read_config(run.path / CONFIG)
    given = {key: value for key, value in options.items() if value is not None}
    check_settings(run, config)
    wanted = changed(config, given)
    for key in given:
        if key not in CHANGEABLE and getattr(wanted, key) != getattr(config, key):
            name = "TASK" if key == "task" else option_name(key)
            raise ConfigError(
                f"--resume goes on with the settings of {run.path}; drop {name}, or start a new run"
            )
    # The split stays the same, even if the data have changed since.
    kept = {"splits": run.path / SPLITS, "folds": None, "fold": None, "out": None}
    return None if finished else wanted.model_copy(update=kept)


def check_settings(run: Run, config: TrainConfig) -> None:
    """Refuse to go on with other settings than those that training began with.

    Runs of older versions do not say which they were.

    Raises:
        ConfigError: ``config.yaml`` was edited; names the setting.
    """
    if not run.has(ENVIRONMENT):
        return
    where = run.path / ENVIRONMENT
    began = checked(Began, run.read_json(ENVIRONMENT), where).settings
    now = kept_settings(config)
    for name in now.keys() & began.keys():
        if now[name] != began[name]:
            raise ConfigError(
                f"{run.path / CONFIG}: {name} is {shown(now[name])}, but training began with "
                f"{shown(began[name])}; put it back, or start a new run by --config"
            )


def requeued(out: Path) -> bool:
    """Whether SLURM runs this job again and ``out`` is what its first part left."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")
    return again and (out / CONFIG).is_file()
