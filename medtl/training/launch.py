"""From a TrainConfig to its plan and, unless that is all that was asked for, to a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtl.config import TrainConfig
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.run_folder import Run

if TYPE_CHECKING:
    from medtl.training.preview import Preview


def check_names(config: TrainConfig, catalog: Catalog) -> None:
    """Raise UnknownNameError for a component that nobody offers, and ConfigError where no task is
    named; torch is not imported yet, so that a typo costs no seconds."""
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


def launch(
    config: TrainConfig,
    catalog: Catalog,
    reporter: Reporter,
    run: Run | None = None,
    *,
    dry_run: bool = False,
    profile: bool = False,
) -> tuple[Preview, Run | None]:
    """Plan, report the plan, and train; of several processes the first alone reports.

    Args:
        run: the unfinished run to go on with; None: a new one.
        dry_run: only plan.
        profile: measure where the time of the first stage's steps goes.

    Returns:
        What was decided before the first step, and the run; None after a dry run.
    """
    check_names(config, catalog)
    from medtl.runtime.device import build_fabric
    from medtl.training.plan import make_plan
    from medtl.training.preview import show_plan
    from medtl.training.run import run_plan

    fabric = build_fabric(config.device, config.precision, config.devices, config.num_nodes)
    reporter.quiet = reporter.quiet or not fabric.is_global_zero
    for notice in (
        catalog.networks.notices(config.network, config.options) if config.network else ()
    ):
        reporter.say(notice)
    plan = make_plan(config, catalog, reporter, fabric.world_size)
    preview = show_plan(plan, catalog, fabric, reporter)
    if dry_run:
        return preview, None
    return preview, run_plan(
        preview.plan, catalog, fabric, reporter, run or config.out, profile=profile
    )
