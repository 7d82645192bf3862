"""Plan, train, and go on with what was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from medtl.api.runs import Run, open_run
from medtl.api.session import check_processes, own_randomness, recorder
from medtl.api.settings import TrainSettings, Where, path_of, plain

if TYPE_CHECKING:
    from medtl.api.plans import Plan
    from medtl.catalog import Catalog
    from medtl.config import TrainConfig


def train(
    task: str | None = None,
    *,
    config: Where | None = None,
    profile: bool = False,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[TrainSettings],
) -> Run:
    """Train ``task`` with a transfer strategy and score it on locked test patients.

    Without ``data`` the built-in synthetic phantom is used. The run goes to ``out``, or a numbered
    folder below ``runs/``.

    Args:
        config: a YAML file of settings, over which those given here go.
        profile: also measure where the time of a step goes.
        catalog: components of your own, see :func:`medtl.api.catalog`.
        settings: those of :class:`medtl.config.TrainConfig`, for example ``strategy``, ``src``,
            ``dst``, ``steps``, ``with_control``, ``out``.

    Raises:
        ConfigError: a setting is unknown or cannot be used.
        DataError: cases are missing or damaged.
        Interrupted: a signal came; :func:`resume` goes on.
    """
    from medtl.launching import launch
    from medtl.runs import check_out

    resolved = _resolve(task, config, settings)
    check_out(resolved.out)
    told = recorder(verbose)
    with own_randomness():
        launched = launch(resolved, catalog or _installed(), told, profile=profile)
    assert launched.run is not None  # it was no dry run
    return Run(launched.run.path, tuple(told.lines))


def plan(
    task: str | None = None,
    *,
    config: Where | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[TrainSettings],
) -> Plan:
    """What :func:`train` would do with the same settings: reads every header, trains nothing."""
    from medtl.api.plans import plan_of
    from medtl.launching import launch

    resolved = _resolve(task, config, settings)
    told = recorder(verbose)
    with own_randomness():
        launched = launch(resolved, catalog or _installed(), told, dry_run=True)
    return plan_of(launched, told)


def resume(
    run: Where,
    *,
    device: str | None = None,
    devices: int | None = None,
    num_nodes: int | None = None,
    workers: int | None = None,
    cache: str | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Run:
    """Go on with a run that was stopped, to the very same weights; a finished one is left alone.

    What is given here may differ from the run's own settings, as it changes no weight.
    """
    from medtl.continuing import going_on
    from medtl.launching import launch
    from medtl.runs import open_run as recognise

    given = {
        "device": device,
        "devices": devices,
        "num_nodes": num_nodes,
        "workers": workers,
        "cache": cache,
    }
    folder = recognise(path_of(run))
    resolved = going_on(folder, given)
    if resolved is None:
        return open_run(folder.path)
    check_processes(resolved.devices, resolved.num_nodes)
    told = recorder(verbose)
    with own_randomness():
        launch(resolved, catalog or _installed(), told, folder)
    return Run(folder.path, tuple(told.lines))


def _resolve(task: str | None, config: Where | None, settings: Any) -> TrainConfig:
    from medtl.config import TrainConfig, checked, read_config

    given = plain({"task": task, **settings})
    if config is not None:
        file = read_config(path_of(config), TrainConfig)
        given = {**file.model_dump(exclude_unset=True), **given}
    resolved = checked(TrainConfig, given)
    check_processes(resolved.devices, resolved.num_nodes)
    return resolved


def _installed() -> Catalog:
    from medtl.catalog import load_catalog

    return load_catalog()
