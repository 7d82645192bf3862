"""What ``medtl train`` prints before it starts, and all that ``--dry-run`` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from time import perf_counter

import torch
from lightning_fabric import Fabric

from medtl.data.voxel_size import in_mm
from medtl.errors import ConfigError
from medtl.networks.blocks import Network, freeze, partition, tensors
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import precision_name
from medtl.runtime.memory import in_words, unless_out_of_memory
from medtl.runtime.table import Table, percentage
from medtl.training.build import build_losses, build_network, stage_network
from medtl.training.checks import untold_regions
from medtl.training.loop import CLIP_NORM, VALIDATION_GAP, validations
from medtl.training.memory_estimate import Foreseen, foresee
from medtl.training.optimizer import EMA, build_optimizer
from medtl.training.plan import Plan
from medtl.training.stages import lay_out
from medtl.training.step import Objective
from medtl.transfer.prepare import PreparedNetwork
from medtl.transfer.receipt import Receipt
from medtl.transfer.strategies.base import SOURCE, Stage
from medtl.transfer.weights import Weights

TRIAL_STEPS = 3


#: Share of ``--minutes``, and seconds at most, for which steps are timed beforehand.
TRIAL_SHARE, MOST_TRIAL_S = 0.02, 20.0


#: The columns of the table of stages.
COLUMNS = ("stage", "domain", "steps", "starts from", "frozen", "rate", "trainable", "minutes")


@dataclass(frozen=True, slots=True)
class StagePreview:
    """How a stage would start, and how long it would take."""

    stage: Stage
    receipt: Receipt
    trainable: float  #: share of the parameters
    rates: str  #: the optimiser with its rates
    minutes: float | None  #: None: not timed


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would do; ``footprint`` is None where it cannot be estimated."""

    plan: Plan  #: with the number of steps that ``--minutes`` allow
    stages: tuple[StagePreview, ...]
    seconds_per_step: float | None
    footprint: Foreseen | None


def show_plan(plan: Plan, catalog: Catalog, fabric: Fabric, reporter: Reporter) -> Preview:
    """Report cases, split, stages with trainable shares, memory and time estimates.

    Each stage's network is built once: it shows how the stage starts, how much memory a step takes
    and how long it lasts.

    Raises:
        ConfigError: a stage cannot start, or ``--minutes`` cannot be timed.
    """
    for line in _facts(plan, catalog, fabric):
        reporter.say(line)
    if few := plan.few_tested():
        (reporter.warn if plan.config.with_control else reporter.say)(few)
    prepared = list(preview_stages(plan, catalog))
    networks = [ready.network for ready in prepared]
    foreseen = foresee(plan, catalog, fabric, networks)
    shortage = foreseen.shortage if foreseen else ""
    minutes = plan.config.minutes if plan.config.steps is None else None
    if shortage and minutes:
        raise ConfigError(f"--minutes times a few steps, but {shortage}, or give --steps")
    if shortage:
        reporter.warn(shortage)
    seconds = None
    if not shortage:
        for_s = min(MOST_TRIAL_S, 60 * TRIAL_SHARE * minutes) if minutes else 0.0
        trial = partial(seconds_per_step, plan, catalog, fabric, networks[0], for_s)
        seconds = trial() if fabric.world_size > 1 else unless_out_of_memory(trial)
    if minutes:
        drafted, plan = plan, _within(minutes, seconds, plan, catalog, fabric)
        if _without_steps(drafted) != _without_steps(plan):  # few steps may end in fewer stages
            prepared = list(preview_stages(plan, catalog))
    stages = tuple(
        StagePreview(
            stage,
            ready.receipt,
            ready.trainable_share() if stage.steps else 0.0,
            _rates(stage, ready),
            seconds * _effort(stage) / 60 if seconds else None,
        )
        for stage, ready in zip(plan.stages, prepared, strict=True)
    )
    preview = Preview(plan, stages, seconds, foreseen)
    reporter.show(_table(preview))
    same = plan.request.source == plan.request.target
    if same and any(stage.name == SOURCE for stage in plan.stages):
        reporter.warn(
            "--src and --dst are the same images: training longer on them is no transfer; name "
            "another --src, or start from other weights by --init"
        )
    return preview


def _facts(plan: Plan, catalog: Catalog, fabric: Fabric) -> Iterator[str]:
    """The cases, the strategy, the network and its patches, a line each."""
    split, cases, counted = plan.split, plan.cohort.cases, plan.cohort.counted
    of = f" of {len({case.patient for case in cases})} {counted}" if counted != "cases" else ""
    yield (
        f"{len(cases)} cases{of}: "
        f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test (locked)"
    )
    if split.budget:
        yield (
            f"{len(split.budget)} {counted} of the target are used: {len(split.budget.train)} "
            f"train, {len(split.budget.val)} validation"
        )
    if not (split.budget or split).val:
        yield f"too few {counted} to validate on: the last step of each stage is kept"
    if plan.task_type.dense:
        yield from untold_regions(plan.task, cases)
    strategy = catalog.strategies[plan.config.strategy]
    yield f"strategy {strategy.name}: {strategy.summary}"
    edges = "x".join(map(str, plan.patch_size))
    scale = "scaled to fit" if plan.preset.fits else f"at {in_mm(plan.preset.spacing_mm)}"
    what = "patches" if plan.task_type.dense else "images"
    yield (
        f"network {plan.network}, {what} {edges} {scale}, "
        f"batch {plan.request.batch_size}, on {fabric.device} in "
        f"{precision_name(fabric)}"
    )
    if plan.config.modality_dropout:
        yield f"{plan.config.modality_dropout:.0%} of the patches lack modalities"


def _effort(stage: Stage) -> int:
    """The stage's steps; with unlabelled images a batch is twice as large."""
    return stage.steps * (2 if stage.unlabelled else 1)


def _table(preview: Preview) -> Table:
    """The stages, a row each."""
    plan = preview.plan
    rows = tuple(
        (
            each.stage.name,
            str(each.stage.domain).removeprefix("mod:"),
            str(each.stage.steps),
            " + ".join(filter(None, (each.stage.init, each.stage.initialiser))),
            each.stage.frozen,
            each.rates,
            percentage(each.trainable) if each.stage.steps else "-",
            "?" if each.minutes is None else f"{each.minutes:.1f}",
        )
        for each in preview.stages
    )
    title = "Stages" + (" (synthetic phantom)" if plan.cohort.synthetic else "")
    return Table(title, COLUMNS, rows, tuple(_notes(preview)))


def _notes(preview: Preview) -> Iterator[str]:
    """Notes on time, memory and unusual domains."""
    plan, seconds = preview.plan, preview.seconds_per_step
    if seconds:
        minutes = seconds * sum(map(_effort, plan.stages)) / 60
        yield f"about {seconds:.2f} s per step, {minutes:.1f} minutes without validation"
    else:
        yield "a step does not fit the memory, so it was not timed"
    if plan.split.val and any(validations(stage.steps) == 1 for stage in plan.stages):
        few = f"under {2 * VALIDATION_GAP} steps"
        yield f"a stage of {few} is validated once, at its end, so no checkpoint is chosen"
    yield f"prepared cases take up to {in_words(plan.memory_bytes())}"
    if preview.footprint:
        yield str(preview.footprint)
    for stage in plan.stages:
        if stage.unlabelled:
            yield f"{stage.name} sees training images of {stage.unlabelled}, not their labels"


def _rates(stage: Stage, ready: PreparedNetwork) -> str:
    """The optimiser with its rate, or its lowest and highest, of what is trained."""
    if not stage.steps:
        return "-"
    block_of = partition(ready.network)
    trained = {block for name, block in block_of.items() if name not in ready.frozen}
    rates = {stage.rates.get(block, stage.rates["*"]) for block in trained}
    low, high = f"{min(rates, default=0):.2g}", f"{max(rates, default=0):.2g}"
    return f"{stage.optimizer} {low}" + (f" to {high}" if high != low else "")


def preview_stages(plan: Plan, catalog: Catalog) -> Iterator[PreparedNetwork]:
    """Each stage's network as it would start, with random weights where training would be."""
    previous: Weights | None = None
    for stage in plan.stages:
        network = build_network(plan, catalog, stage)
        yield stage_network(plan, catalog, network, stage, previous)
        metadata = {
            "modalities": list(stage.domain.modalities),
            "regions": list(plan.task.regions),
            "network": {"options": dict(network.options)},
        }
        state = {name: tensor.detach() for name, tensor in tensors(network).items()}
        previous = Weights(Path("previous stage"), state, metadata, "medtl")


def seconds_per_step(
    plan: Plan, catalog: Catalog, fabric: Fabric, network: Network, for_s: float = 0.0
) -> float:
    """Time of a training step from scratch, on noise; making patches is not included.

    The median of a few steps. The mean of as many as last ``for_s`` seconds where that is more:
    processors slow down when they are busy for long.

    Args:
        network: the first stage's; its weights are moved.
    """
    stage = replace(plan.stages[0], frozen="none")
    if stage.unlabelled:  # half of a step: see _effort
        stage = replace(stage, unlabelled=None, losses=plan.request.losses)
    freeze(network, ())
    network.module.train()
    shape, maps = _shapes(plan, network, stage.batch_size // fabric.world_size)
    objective = Objective(network.module, build_losses(stage, catalog, network, torch.zeros(shape)))
    optimizer = build_optimizer(network, stage, (), fused=precision_name(fabric) != "fp16")
    model, optimizer = fabric.setup(objective, optimizer)
    image = torch.randn(shape, device=fabric.device)
    target = torch.zeros(maps, device=fabric.device)
    average = EMA(network, stage.average)

    def step() -> float:
        started = perf_counter()
        with suited_to_cpu(network.module):
            loss = model(image, target)
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP_NORM, error_if_nonfinite=False)
        optimizer.step()
        average.update(1)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - started

    few = median([step() for _ in range(TRIAL_STEPS)])
    # Every process takes the same steps.
    more = fabric.broadcast(round(for_s / few)) - TRIAL_STEPS
    return few if more <= 0 else fmean([step() for _ in range(more)])


def _shapes(plan: Plan, network: Network, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of ``count`` images and of their targets."""
    edges = plan.patch_size[: network.spatial_dims]
    maps = edges if network.dense else ()
    return (count, network.in_channels, *edges), (count, network.out_channels, *maps)


def _without_steps(plan: Plan) -> list[Stage]:
    return [replace(stage, steps=0) for stage in plan.stages]


def _within(
    minutes: float, seconds: float | None, plan: Plan, catalog: Catalog, fabric: Fabric
) -> Plan:
    """The plan with the number of steps that ``minutes`` allow on each of source and target."""
    if seconds is None:
        raise ConfigError(
            "--minutes times a few steps, but the memory does not hold one; lower --batch-size "
            "or patch_size"
        )
    # Each process has timed its own steps: the first one's time decides.
    steps = fabric.broadcast(max(1, round(60 * minutes / seconds)))
    request = replace(plan.request, steps=steps)
    return replace(plan, request=request, stages=lay_out(plan.config, catalog, request))
