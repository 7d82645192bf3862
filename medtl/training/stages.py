"""From a TrainConfig to what a strategy is asked to plan, and to its stages; no data yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from medtl.config import ResolvedConfig, TrainConfig
from medtl.data.domain import Domain, parse_domain
from medtl.data.task import Task, check_modalities
from medtl.errors import ConfigError
from medtl.inference.task_types import TaskType
from medtl.networks.blocks import Network
from medtl.networks.options import check_accepted
from medtl.plugins.catalog import Catalog
from medtl.plugins.loader import canonical
from medtl.runtime.files import file_name
from medtl.training.checks import check_adaptation
from medtl.transfer.imagenet import IMAGENET, read_imagenet
from medtl.transfer.strategies.base import (
    MOMENTUM,
    SOURCE,
    LossSpec,
    Request,
    Stage,
    Strategy,
    controls,
    on_target,
    refuse,
)
from medtl.transfer.weights import Weights, read_weights, resolve_weights, steps_behind


def outside_weights(config: TrainConfig, catalog: Catalog, network: str) -> Weights | None:
    """The weights that ``--init`` names for ``network``, if any."""
    if config.init == IMAGENET:
        return read_imagenet(catalog, network, config.weights, config.weights_key or "")
    if not config.init:
        return None
    return read_weights(resolve_weights(config.init), config.weights_key or "")


def levels_of(weights: Weights, config: TrainConfig, network: str) -> dict[str, Any]:
    """Width and options of the planned network in a file, for settings that are not given.

    The weights fit these strides and kernels alone. Empty for other networks.
    """
    record, asked = weights.network, canonical(network).rpartition(":")[2]
    options = {k: v for k, v in (record.get("options") or {}).items() if v is not None}
    if record.get("name") != asked or config.options or "strides" not in options:
        return {}
    return {"options": options, "width": config.width or record.get("width")}


def build_request(
    config: TrainConfig, task: Task, kind: TaskType, catalog: Catalog, outside: Weights | None
) -> tuple[Request, Network]:
    """The request, with the task's defaults, and the target's network, which names its blocks;
    ``outside``: the weights of ``--init``."""
    source = _domain(config.src, task.defaults.src, task)
    target = _domain(config.dst, task.defaults.dst, task)
    network = _target_network(config, task, kind, catalog, target)
    request = Request(
        source,
        target,
        steps=config.steps or task.defaults.steps,
        batch_size=config.batch_size or task.defaults.batch_size,
        rate=config.lr or task.defaults.rate,
        init=config.init,
        freeze=config.freeze,
        schedule=config.schedule,
        warmup=config.warmup,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        average=config.average,
        losses=(LossSpec(config.loss or task.defaults.loss),),
        blocks=tuple(block.name for block in network.blocks),
        depth=config.depth,
        keep_blocks=config.keep_blocks,
        optimizer=config.optimizer,
        initialiser=config.initialiser,
        options=config.options,
        init_steps=steps_behind(outside) if outside else None,
        alignment=config.alignment,
        select_by=config.select_by,
    )
    return request, network


def _target_network(
    config: TrainConfig, task: Task, kind: TaskType, catalog: Catalog, target: Domain
) -> Network:
    name = config.network or task.defaults.network
    twice = config.keep_blocks and config.options.get("keep_blocks")
    refuse(twice, "--keep-blocks and options.keep_blocks are the same setting; drop one")
    builder = catalog.networks[name].load()
    cut = {"keep_blocks": config.keep_blocks} if config.keep_blocks else {}
    options = {**config.options, **cut}
    check_accepted(name, builder, options)
    count = len(task.defaults.patch_size)
    dims = {} if kind.dense and count != 2 else {"spatial_dims": count}
    network: Network = builder(
        in_channels=len(target.modalities),
        out_channels=len(task.regions),
        width=config.width,
        **dims,
        **options,
    )
    return network


def lay_out(config: ResolvedConfig, catalog: Catalog, request: Request) -> tuple[Stage, ...]:
    """The strategy's stages, with the from-scratch controls where they are asked for.

    The strategy is called once; with ``--depth`` once more, to see whether it reads the depth.
    """
    strategy: Strategy = catalog.strategies[config.strategy].load()
    planned = strategy(request)
    if config.depth is not None and not _reads_depth(strategy, request, planned):
        raise ConfigError(f"strategy {config.strategy} has no --depth; drop it")
    for each in planned:
        if file_name(each.name) != each.name:
            raise ConfigError(
                f"strategy {config.strategy} calls a stage {each.name!r}, which cannot be the name "
                "of a folder everywhere; rename the stage"
            )
    own = _without_source(planned, config.strategy) if config.skip_source else planned
    stages = on_target(request, own)
    check_adaptation(stages, config)
    return (*stages, *controls(request, stages)) if config.with_control else stages


def _without_source(planned: tuple[Stage, ...], strategy: str) -> tuple[Stage, ...]:
    """The stages behind the training on the source. ConfigError where they start from it."""
    own = tuple(each for each in planned if each.name != SOURCE)
    if not own or own == planned or own[0].init == "previous":
        raise ConfigError(
            f"skip_source: strategy {strategy} has no stages beside its training on the source "
            "that do without it; drop it"
        )
    return own


def unused(config: TrainConfig, request: Request, stages: Sequence[Stage]) -> Iterator[str]:
    """A line for each setting that was given and changes nothing."""
    visited = {domain for stage in stages for domain in stage.domains()}
    if config.src and request.source not in visited:
        start = "the weights of --init" if request.init else "random weights"
        yield f"--src {config.src} is not used: strategy {config.strategy} starts from {start}"
    optimizers = {stage.optimizer for stage in stages}
    if config.momentum != MOMENTUM and "sgd" not in optimizers:
        yield (
            f"momentum {config.momentum:g} is not used: it is that of sgd, and the stages take "
            f"{', '.join(sorted(optimizers))}"
        )


def _reads_depth(strategy: Strategy, request: Request, planned: tuple[Stage, ...]) -> bool:
    """Whether the strategy reads ``--depth``; it need not declare it.

    One that does refuses a depth that no network has, or plans other stages than ``planned``.
    """
    impossible = -1 if request.depth else len(request.blocks) + 1
    try:
        return strategy(replace(request, depth=impossible)) != planned
    except ConfigError:
        return True


def _domain(given: str | None, default: str, task: Task) -> Domain:
    """The domain as asked for; if it names no modalities, with those of the task's default."""
    text = given or default
    domain = parse_domain(text)
    check_modalities(domain, task)
    if not domain.modalities:
        domain = replace(domain, modalities=parse_domain(default).modalities)
    if domain.task or domain.data:
        raise ConfigError(f"{text!r}: training takes task and data from TASK and --data alone")
    if not domain.modalities:
        raise ConfigError(f"{text!r} names no modalities; write for example mod:flair+t1ce,{text}")
    return domain
