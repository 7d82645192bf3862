"""What ``medtl train`` prints before it starts, and all that ``--dry-run`` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from lightning_fabric import Fabric

from medtl.data.domain import Domain
from medtl.errors import ConfigError
from medtl.networks.blocks import Network, partition, tensors
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import precision_name
from medtl.runtime.memory import give_back_freed_memory, in_words, out_of_memory
from medtl.runtime.table import Table
from medtl.training.build import build_losses, build_network, stage_network
from medtl.training.memory_estimate import Foreseen, foresee
from medtl.training.optimizer import build_optimizer
from medtl.training.plan import Plan
from medtl.training.stages import lay_out
from medtl.training.step import Objective
from medtl.transfer.prepare import PreparedNetwork
from medtl.transfer.receipt import Receipt
from medtl.transfer.strategies.base import SOURCE, Stage
from medtl.transfer.weights import Weights

TRIAL_STEPS = 5


@dataclass(frozen=True, slots=True)
class StagePreview:
    """How a stage would start, and how long it would take."""

    stage: Stage
    receipt: Receipt
    trainable: float  #: share of the parameters
    minutes: float | None  #: None: not timed


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would do; ``footprint`` None where it cannot be foreseen."""

    stages: tuple[StagePreview, ...]
    seconds_per_step: float | None
    footprint: Foreseen | None


def show_plan(plan: Plan, catalog: Catalog, fabric: Fabric, reporter: Reporter) -> Preview:
    """Tell cases, split, stages with trainable shares, memory and time estimates."""
    split = plan.split
    cases = plan.cohort.cases
    counted = plan.cohort.counted
    of = f" of {len({case.patient for case in cases})} {counted}" if counted != "cases" else ""
    reporter.say(
        f"{len(cases)} cases{of}: "
        f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test (locked)"
    )
    if not split.val:
        reporter.say(f"too few {counted} to validate on: the last step of each stage is kept")
    strategy = catalog.strategies[plan.config.strategy]
    reporter.say(f"strategy {strategy.name}: {strategy.summary}")
    edges = "x".join(map(str, plan.patch_size))
    scale = "scaled to fit" if plan.preset.fits else f"at {plan.preset.spacing_mm:g} mm"
    what = "patches" if plan.task_type.dense else "images"
    reporter.say(
        f"network {plan.network}, {what} {edges} {scale}, "
        f"batch {plan.request.batch_size}, on {fabric.device} "
        f"in {fabric.strategy.precision.precision}"
    )
    if plan.config.modality_dropout:
        reporter.say(f"{plan.config.modality_dropout:.0%} of the patches lack modalities")
    prepared = list(preview_stages(plan, catalog))
    foreseen = foresee(plan, catalog, fabric)
    if foreseen and foreseen.shortage:
        reporter.say(f"warning: {foreseen.shortage}")
    seconds = None if foreseen and foreseen.shortage else trial(plan, catalog, fabric)
    # A stage beside unlabelled images takes a batch twice as large.
    effort = [stage.steps * (2 if stage.unlabelled else 1) for stage in plan.stages]
    total_steps = sum(effort)
    rows = tuple(
        (
            stage.name,
            "+".join(stage.domain.modalities),
            str(stage.steps),
            " + ".join(filter(None, (stage.init, stage.initialiser))),
            stage.frozen,
            _rates(stage, ready),
            f"{ready.trainable_share():.1%}" if stage.steps else "-",
            f"{seconds * steps / 60:.1f}" if seconds else "?",
        )
        for stage, ready, steps in zip(plan.stages, prepared, effort, strict=True)
    )
    columns = (
        "stage",
        "modalities",
        "steps",
        "starts from",
        "frozen",
        "rate",
        "trainable",
        "minutes",
    )
    timing = (
        f"about {seconds:.2f} s per step, {seconds * total_steps / 60:.1f} minutes of training"
        if seconds
        else "a step does not fit the memory, so it was not timed"
    )
    notes = [timing, f"prepared cases take up to {in_words(plan.memory_bytes())}"]
    if foreseen:
        notes.append(str(foreseen))
    same = plan.request.source == plan.request.target
    if same and any(stage.name == SOURCE for stage in plan.stages):
        notes.append(
            "warning: --src and --dst are the same images: training longer on them is no transfer; "
            "name another --src, or start from other weights by --init"
        )
    notes += [
        f"{stage.name} sees training images of {stage.unlabelled}, not their labels"
        for stage in plan.stages
        if stage.unlabelled
    ]
    title = "Stages" + (" (synthetic phantom)" if plan.cohort.synthetic else "")
    reporter.show(Table(title, columns, rows, tuple(notes)))
    return Preview(
        tuple(
            StagePreview(
                stage,
                ready.receipt,
                ready.trainable_share() if stage.steps else 0.0,
                seconds * steps / 60 if seconds else None,
            )
            for stage, ready, steps in zip(plan.stages, prepared, effort, strict=True)
        ),
        seconds,
        foreseen,
    )


def _rates(stage: Stage, ready: PreparedNetwork) -> str:
    """The optimiser with its rate, or its lowest and highest, of what is trained."""
    if not stage.steps:
        return "-"
    block_of = partition(ready.network)
    trained = {block for name, block in block_of.items() if name not in ready.frozen}
    rates = {stage.rates.get(block, stage.rates["*"]) for block in trained}
    low, high = f"{min(rates, default=0):.2g}", f"{max(rates, default=0):.2g}"
    return f"{stage.optimizer} {low}" + (f" to {high}" if high != low else "")


def trial(plan: Plan, catalog: Catalog, fabric: Fabric) -> float | None:
    """:func:`seconds_per_step`; None if the memory does not hold the batch."""
    try:
        return seconds_per_step(plan, catalog, fabric)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or fabric.world_size > 1:
            raise
    give_back_freed_memory()
    return None


def preview_stages(plan: Plan, catalog: Catalog) -> Iterator[PreparedNetwork]:
    """Each stage's network as it would start, with random weights where training would be."""
    previous: Weights | None = None
    for stage in plan.stages:
        network = build_network(plan, catalog, stage.domain, stage.options)
        yield stage_network(plan, catalog, network, stage, previous)
        previous = _as_weights(network, stage.domain, plan)


def _as_weights(network: Network, domain: Domain, plan: Plan) -> Weights:
    metadata = {
        "modalities": list(domain.modalities),
        "regions": list(plan.task.regions),
        "network": {"options": dict(network.options)},
    }
    state = {name: tensor.detach() for name, tensor in tensors(network).items()}
    return Weights(Path("previous stage"), state, metadata, "medtl")


def seconds_per_step(plan: Plan, catalog: Catalog, fabric: Fabric) -> float:
    """Median time of a training step from scratch, on noise; making patches is not included."""
    stage = replace(plan.stages[0], frozen="none")
    network = build_network(plan, catalog, stage.domain, stage.options)
    edges = plan.patch_size[: network.spatial_dims]
    shape = (stage.batch_size // fabric.world_size, network.in_channels, *edges)
    objective = Objective(network.module, build_losses(stage, catalog, network, torch.zeros(shape)))
    optimizer = build_optimizer(network, stage, (), fused=precision_name(fabric) != "fp16")
    model, optimizer = fabric.setup(objective, optimizer)
    image = torch.randn(shape, device=fabric.device)
    map_edges = edges if network.dense else ()
    target = torch.zeros((shape[0], network.out_channels, *map_edges), device=fabric.device)
    seconds = []
    for _ in range(TRIAL_STEPS):
        started = perf_counter()
        with suited_to_cpu(network.module):
            loss = model(image, target)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(perf_counter() - started)
    return median(seconds)


def with_minutes(plan: Plan, catalog: Catalog, fabric: Fabric) -> Plan:
    """The plan with as many steps per side as fit in ``config.minutes``, by a timed trial."""
    minutes = plan.config.minutes
    if minutes is None or plan.config.steps is not None:
        return plan
    foreseen = foresee(plan, catalog, fabric)
    if foreseen and foreseen.shortage:
        raise ConfigError(f"--minutes times a few steps, but {foreseen.shortage}, or give --steps")
    steps = max(1, round(60 * minutes / seconds_per_step(plan, catalog, fabric)))
    steps = fabric.broadcast(steps)  # each process timed its own
    request = replace(plan.request, steps=steps)
    return replace(plan, request=request, stages=lay_out(plan.config, catalog, request))
