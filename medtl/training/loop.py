"""The one training loop, read top-down, on Lightning Fabric.

Axes: B batch, C modality, L region, then the spatial axes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medtl.errors import Interrupted, MedtlError
from medtl.networks.blocks import Network, tensors, train_mode
from medtl.networks.norms import hold_norms
from medtl.runtime.device import precision_name
from medtl.runtime.distributed import mean_over
from medtl.runtime.run_folder import append_line
from medtl.training.optimizer import EMA, build_optimizer, scheduled
from medtl.training.profiler import AVERAGE, CLIP, DATA, KEEP, OPTIMISER, VALIDATION, Profile
from medtl.training.state import STATE, Progress, Resumable, cut_rows
from medtl.training.step import Gradients, Objective
from medtl.transfer.strategies.base import Stage

CLIP_NORM = 5.0


VALIDATIONS = 10


PLATEAU_PATIENCE = 2


#: The state to resume from is kept at every validation, and at least this often.
KEEP_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What a stage ended with: averaged weights, the best by validation and the last."""

    best: dict[str, Tensor]
    last: dict[str, Tensor]
    best_step: int
    best_score: float | None
    seconds: float
    waiting_seconds: float
    at_once: int | None  #: samples that the memory held at once in the end; None: a whole batch


Batches = Callable[[int], Iterable[Mapping[str, Tensor]]]


Validate = Callable[[], Mapping[str, float]]


Advance = Callable[[int, float], None]


def fit(
    network: Network,
    stage: Stage,
    frozen: tuple[str, ...],
    losses: Iterable[tuple[float, nn.Module]],
    batches_after: Batches,
    fabric: Fabric,
    folder: Path,
    *,
    seed: int,
    validate: Validate | None = None,
    patience: int | None = None,
    advance: Advance = lambda step, loss: None,
    asked_to_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
    profile: Profile | None = None,
) -> Fit:
    """Train ``stage.steps`` optimiser steps; rows go to ``folder/metrics.jsonl``.

    Goes on from the state that an earlier call left in ``folder``, to the same weights.

    Args:
        batches_after: the batches that follow after so many steps: "image", "target" and, where
            the stage has them, "unlabelled" images.
        seed: with the step's number, decides what that step draws at random (dropout).
        validate: scores of validation patients (higher is better, averaged to select); without it
            the last weights are also the best.
        patience: validations without improvement before the stage ends.
        asked_to_stop: whether to keep the state and raise Interrupted after the present step.
        tell: told where it goes on, and when the memory holds only a part of the batch at once.
        profile: measures where the time goes; changes no weight.

    Raises:
        MedtlError: a loss that is not finite.
        ConfigError: the memory does not hold a single sample.
    """
    profile = profile or Profile()
    objective = Objective(network.module, losses)
    objective.losses.to(fabric.device)
    optimizer = build_optimizer(network, stage, frozen, fused=precision_name(fabric) != "fp16")
    _take_in(optimizer, objective, stage)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = EMA(network)
    resumable = Resumable(network, objective.losses, optimizer, average, fabric.strategy.precision)
    state, rows = folder / STATE, folder / "metrics.jsonl"
    progress = resumable.read(state) if state.is_file() else Progress()
    if progress.step:
        tell(f"goes on after step {progress.step} of {stage.steps}")
    if fabric.is_global_zero:
        cut_rows(rows, progress.step)
    model, stepper = fabric.setup(objective, optimizer)
    gradients = Gradients(
        objective,
        fabric,
        model,
        stepper.zero_grad,
        at_once=progress.at_once,
        tell=tell,
        profile=profile,
    )
    every = max(1, math.ceil(stage.steps / VALIDATIONS))
    started = kept = time.perf_counter() - progress.seconds
    batches = iter(batches_after(progress.step))
    _train_mode(network, stage, frozen)
    profile.begin(stage.steps - progress.step)
    while progress.step < stage.steps and not (patience and progress.stale >= patience):
        asked = time.perf_counter()
        with profile.span(DATA):
            batch = next(batches)
        progress.waiting_seconds += time.perf_counter() - asked
        progress.step += 1
        step = progress.step
        scale = progress.factor * scheduled(stage.schedule, step, stage.steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        image, target = fabric.to_device((batch["image"], batch["target"]))
        unlabelled = fabric.to_device(batch["unlabelled"]) if "unlabelled" in batch else None
        loss = gradients(
            image,
            target,
            (seed + step) * fabric.world_size + fabric.global_rank,
            unlabelled,
            (step - 1) / stage.steps,
        )
        with profile.span(CLIP):
            fabric.clip_gradients(model, stepper, max_norm=CLIP_NORM, error_if_nonfinite=False)
        with profile.span(OPTIMISER):
            stepper.step()
        with profile.span(AVERAGE):
            average.update(step)
        # Every process takes part in every decision.
        shared = torch.stack([loss.float(), loss.new_tensor(float(asked_to_stop()))])
        value, stop = mean_over(fabric, shared).tolist()
        if not math.isfinite(value):
            raise MedtlError(
                f"stage {stage.name}: the loss is not finite at step {step}; "
                "lower --lr or use --precision fp32"
            )
        advance(step, value)
        row: dict[str, Any] = {"step": step, "loss": value, "rate_scale": scale}
        pause = step % every == 0 or step == stage.steps
        halved = gradients.at_once != progress.at_once
        progress.at_once = gradients.at_once
        if progress.at_once is not None:
            row["at_once"] = progress.at_once
        if validate is not None and pause:
            with profile.span(VALIDATION):
                average.swap()
                row["validation"] = scores = dict(validate())
                _judge(progress, sum(scores.values()) / len(scores), network)
                average.swap()
            _train_mode(network, stage, frozen)
            stalled = progress.stale and progress.stale % PLATEAU_PATIENCE == 0
            if stage.schedule == "plateau" and stalled:
                progress.factor /= 2
        now = time.perf_counter()
        progress.seconds = now - started
        if fabric.is_global_zero:
            with profile.span(KEEP):
                append_line(rows, row)
                if pause or stop or halved or now - kept > KEEP_SECONDS:
                    resumable.write(state, progress)
                    kept = now
        profile.step_taken()
        if stop:
            raise Interrupted(f"stopped after step {step} of {stage.steps} of stage {stage.name}")
    average.swap()
    last = snapshot(network)
    network.module.eval()
    return Fit(
        best=progress.best or last,
        last=last,
        best_step=progress.best_step or progress.step,
        best_score=progress.best_score,
        seconds=time.perf_counter() - started,
        waiting_seconds=progress.waiting_seconds,
        at_once=progress.at_once,
    )


def as_it_is(network: Network) -> Fit:
    """What a stage without steps ends with."""
    network.module.eval()
    weights = snapshot(network)
    return Fit(weights, weights, 0, None, 0.0, 0.0, None)


def _take_in(optimizer: torch.optim.Optimizer, objective: Objective, stage: Stage) -> None:
    """Train the losses' own parameters too."""
    own = [parameter for parameter in objective.losses.parameters() if parameter.requires_grad]
    if own:
        optimizer.add_param_group({"params": own, "lr": stage.rates["*"]})


def _train_mode(network: Network, stage: Stage, frozen: tuple[str, ...]) -> None:
    train_mode(network, frozen)
    if stage.norm_stats == "frozen":
        hold_norms(network)


def _judge(progress: Progress, score: float, network: Network) -> None:
    """Keep the averaged weights that ``network`` now holds if no score was higher."""
    if progress.best_score is None or score > progress.best_score:
        progress.best_score, progress.best_step, progress.stale = score, progress.step, 0
        progress.best = snapshot(network)
    else:
        progress.stale += 1


def snapshot(network: Network) -> dict[str, Tensor]:
    """The network's tensors on the CPU, shared ones once."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors(network).items()}
