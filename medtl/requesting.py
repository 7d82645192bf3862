"""From a TrainConfig to what a strategy is asked to plan, and to its stages; no data yet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches

from medtl.catalog import Catalog
from medtl.config import TrainConfig
from medtl.domain import Domain, parse_domain
from medtl.errors import ConfigError
from medtl.imagenet import IMAGENET
from medtl.kinds import Kind
from medtl.networks import Network
from medtl.options import check_accepted
from medtl.strategies import LossSpec, Request, Stage, Strategy, controls, on_target, refuse
from medtl.task import Task
from medtl.unsupervised import check_adaptation
from medtl.weights import read_weights, resolve_weights, steps_behind


def build_request(
    config: TrainConfig, task: Task, kind: Kind, catalog: Catalog
) -> tuple[Request, Network]:
    """The request, with the task's defaults, and the target's network, which names its blocks."""
    source = _domain(config.src or task.defaults.src, task)
    target = _domain(config.dst or task.defaults.dst, task)
    network = _target_network(config, task, kind, catalog, target)
    request = Request(
        source,
        target,
        steps=config.steps or task.defaults.steps,
        batch_size=config.batch_size or task.defaults.batch_size,
        rate=config.rate or task.defaults.rate,
        init=config.init,
        freeze=config.freeze,
        schedule=config.schedule,
        losses=(LossSpec(config.loss or task.defaults.loss),),
        blocks=tuple(block.name for block in network.blocks),
        depth=config.depth,
        keep_blocks=config.keep_blocks,
        optimizer=config.optimizer,
        initialiser=config.initialiser,
        options=config.options,
        init_steps=_init_steps(config),
        alignment=config.alignment,
        select_by=config.select_by,
    )
    return request, network


def _target_network(
    config: TrainConfig, task: Task, kind: Kind, catalog: Catalog, target: Domain
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


def lay_out(config: TrainConfig, catalog: Catalog, request: Request) -> tuple[Stage, ...]:
    """The strategy's stages, with the from-scratch controls where they are asked for."""
    assert config.strategy is not None  # make_plan has asked the task
    strategy: Strategy = catalog.strategies[config.strategy].load()
    stages = on_target(request, strategy(request))
    if config.depth is not None:
        _check_depth(config.strategy, strategy, request)
    check_adaptation(stages, config)
    return (*stages, *controls(request, stages)) if config.with_control else stages


def _check_depth(name: str, strategy: Strategy, request: Request) -> None:
    """Refuse ``--depth`` for a strategy that plans the same whatever it is."""
    plans = []
    for depth in range(len(request.blocks) + 1):
        with suppress(ConfigError):  # beyond what the strategy takes
            plans.append(strategy(replace(request, depth=depth)))
    if all(plan == plans[0] for plan in plans):
        raise ConfigError(f"strategy {name} has no --depth; drop it")


def _init_steps(config: TrainConfig) -> int | None:
    """What ``--init`` says of its steps; read for control B alone."""
    if not config.with_control or config.init in (None, IMAGENET):
        return None
    assert config.init is not None
    return steps_behind(read_weights(resolve_weights(config.init)))


def _domain(text: str, task: Task) -> Domain:
    domain = parse_domain(text)
    if domain.task or domain.data:
        raise ConfigError(f"{text!r}: training takes task and data from TASK and --data alone")
    if not domain.modalities:
        raise ConfigError(f"{text!r} names no modalities; write for example mod:flair+t1ce,{text}")
    unknown = [name for name in domain.modalities if name not in task.modalities]
    if unknown:
        near = get_close_matches(unknown[0], task.modalities, n=1)
        hint = f"did you mean {near[0]!r}? It" if near else "it"
        raise ConfigError(
            f"task {task.name} has no modality {unknown[0]!r}; {hint} has "
            f"{', '.join(task.modalities)}"
        )
    return domain
