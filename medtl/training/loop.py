"""The one training loop, read top-down, on Lightning Fabric.

Axes: B batch, C modality, L region, then the spatial axes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medtl.errors import DivergedError, Interrupted, RunError
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


#: Validations of a stage, and the least number of steps between two: more of them would take most
#: of the time of a short stage.
VALIDATIONS, VALIDATION_GAP = 10, 25


PLATEAU_PATIENCE = 2


#: A stage writes the state to resume from at ten of its steps, evenly apart, at every validation,
#: and after this many seconds at the latest.
STATES, KEEP_SECONDS = 10, 300.0


ROWS = "metrics.jsonl"


#: Seconds of training until each validation; not in ROWS, which are the same in every repetition.
TIMES = "times.jsonl"


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


#: The batches after a number of steps: "image", "target" and, if the stage has them, "unlabelled".
Batches = Callable[[int], Iterable[Mapping[str, Tensor]]]


Validate = Callable[[], Mapping[str, float]]


Advance = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """Network, stage, losses, device and folder of one training."""

    network: Network
    stage: Stage
    frozen: tuple[str, ...]  #: tensors that do not change
    losses: Sequence[tuple[float, nn.Module]]  #: each with its weight
    fabric: Fabric
    folder: Path  #: of the stage: rows go to its ``metrics.jsonl``
    seed: int  #: with the step's number, decides what that step draws at random (dropout)
    patience: int | None = None  #: validations without improvement before the stage ends


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Functions that the loop calls."""

    #: scores of validation patients (higher is better; their mean selects the best weights);
    #: without it the last weights are also the best
    validate: Validate | None = None
    #: step and loss, after every step
    advance: Advance = lambda step, loss: None
    #: whether to keep the state and raise Interrupted after the present step
    asked_to_stop: Callable[[], bool] = lambda: False
    #: receives a line when training resumes, or when the memory holds only a part of the batch
    tell: Callable[[str], None] = lambda text: None
    #: receives what may be wrong with what is read when training resumes
    warn: Callable[[str], None] = lambda text: None
    #: measures the time of each part; changes no weight
    profile: Profile = field(default_factory=Profile)


def fit(setup: Setup, batches_after: Batches, callbacks: Callbacks | None = None) -> Fit:
    """Train ``stage.steps`` optimiser steps.

    Resumes from the state that an earlier call left in the folder, to the same weights.

    Raises:
        DivergedError: a loss that is not finite.
        ConfigError: the memory does not hold a single sample.
        Interrupted: ``asked_to_stop`` said so; the state is kept.
    """
    loop = _Loop(setup, callbacks or Callbacks())
    stage, fabric, progress, profile = setup.stage, setup.fabric, loop.progress, loop.calls.profile
    batches = iter(batches_after(progress.step))
    _train_mode(setup)
    profile.begin(stage.steps - progress.step)
    while progress.step < stage.steps and progress.stale < (setup.patience or math.inf):
        batch = loop.next_batch(batches)
        scale = loop.set_rates()
        image, target = fabric.to_device((batch["image"], batch["target"]))
        unlabelled = fabric.to_device(batch["unlabelled"]) if "unlabelled" in batch else None
        seed = (setup.seed + progress.step) * fabric.world_size + fabric.global_rank
        done = (progress.step - 1) / stage.steps
        value, stop = loop.update(loop.gradients(image, target, seed, unlabelled, done))
        row = {"step": progress.step, "loss": value, "rate_scale": scale}
        loop.finish_step(row, stop)
        profile.step_taken()
        if stop:
            raise Interrupted(
                f"stopped after step {progress.step} of {stage.steps} of stage {stage.name}"
            )
    return loop.ended()


class _Loop:
    """A stage during its training: optimiser, average and progress."""

    def __init__(self, setup: Setup, calls: Callbacks) -> None:
        """Goes on from the state that an earlier call left."""
        self.setup, self.calls = setup, calls
        network, stage, fabric = setup.network, setup.stage, setup.fabric
        objective = Objective(network.module, setup.losses)
        objective.losses.to(fabric.device)
        fused = precision_name(fabric) != "fp16"
        self.optimizer = build_optimizer(network, stage, setup.frozen, fused=fused)
        # The losses' own parameters are trained, too.
        own = [parameter for parameter in objective.losses.parameters() if parameter.requires_grad]
        if own:
            self.optimizer.add_param_group({"params": own, "lr": stage.rates["*"]})
        #: of the optimiser's groups, before the schedule
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = EMA(network, stage.average)
        self.resumable = Resumable(
            network, objective.losses, self.optimizer, self.average, fabric.strategy.precision
        )
        state = setup.folder / STATE
        self.progress = self.resumable.read(state) if state.is_file() else Progress()
        if self.progress.step:
            calls.tell(f"goes on after step {self.progress.step} of {stage.steps}")
        if self.progress.step > stage.steps:
            raise RunError(
                f"{state}: step {self.progress.step} of a stage of {stage.steps} steps; delete it "
                "to train this stage anew"
            )
        if fabric.is_global_zero and (lost := cut_rows(setup.folder / ROWS, self.progress.step)):
            rows = setup.folder / ROWS
            calls.warn(f"{rows}: lines that cannot be read are dropped: {lost}")
        if fabric.is_global_zero:
            cut_rows(setup.folder / TIMES, self.progress.step)
        #: objective and optimiser as Fabric set them up
        self.model, self.stepper = fabric.setup(objective, self.optimizer)
        clear, at_once = self.stepper.zero_grad, self.progress.at_once
        self.gradients = Gradients(
            objective, fabric, self.model, clear, at_once, calls.tell, calls.profile
        )
        self.started = self.kept = time.perf_counter() - self.progress.seconds

    def next_batch(self, batches: Iterator[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The next step's batch; the step is counted from here on."""
        asked = time.perf_counter()
        with self.calls.profile.span(DATA):
            batch = next(batches)
        self.progress.waiting_seconds += time.perf_counter() - asked
        self.progress.step += 1
        return batch

    def set_rates(self) -> float:
        """Set the step's learning rates; returns their factor."""
        stage, progress = self.setup.stage, self.progress
        factor = scheduled(stage.schedule, progress.step, stage.steps, stage.warmup)
        scale = progress.factor * factor
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * scale
        return scale

    def update(self, loss: Tensor) -> tuple[float, bool]:
        """Move the weights; returns the processes' mean loss and whether one has to stop."""
        fabric, profile, step = self.setup.fabric, self.calls.profile, self.progress.step
        with profile.span(CLIP):
            model, stepper = self.model, self.stepper
            fabric.clip_gradients(model, stepper, max_norm=CLIP_NORM, error_if_nonfinite=False)
        with profile.span(OPTIMISER):
            self.stepper.step()
        with profile.span(AVERAGE):
            self.average.update(step)
        # Every process takes part in every decision.
        shared = torch.stack([loss.float(), loss.new_tensor(float(self.calls.asked_to_stop()))])
        value, stop = mean_over(fabric, shared).tolist()
        if not math.isfinite(value):
            raise DivergedError(
                f"stage {self.setup.stage.name}: the loss is not finite at step {step}; "
                "lower --lr or use --precision fp32"
            )
        self.calls.advance(step, value)
        return value, bool(stop)

    def finish_step(self, row: dict[str, Any], stop: bool) -> None:
        """Validate if it is due, write the step's row and, at intervals, the state."""
        stage, progress = self.setup.stage, self.progress
        validated = validation_is_due(progress.step, stage.steps)
        state_due = validated or _is_due(progress.step, stage.steps, STATES)
        halved = self.gradients.at_once != progress.at_once
        progress.at_once = self.gradients.at_once
        if progress.at_once is not None:
            row["at_once"] = progress.at_once
        if validated:
            self._validate(row)
        now = time.perf_counter()
        progress.seconds = now - self.started
        if self.setup.fabric.is_global_zero:
            with self.calls.profile.span(KEEP):
                append_line(self.setup.folder / ROWS, row)
                if "validation" in row:
                    spent = {"step": progress.step, "seconds": progress.seconds}
                    append_line(self.setup.folder / TIMES, spent)
                if state_due or stop or halved or now - self.kept > KEEP_SECONDS:
                    self.resumable.write(self.setup.folder / STATE, progress)
                    self.kept = now

    def _validate(self, row: dict[str, Any]) -> None:
        """Score the averaged weights and keep them if they are the best so far."""
        if self.calls.validate is None:
            return
        progress, stage = self.progress, self.setup.stage
        with self.calls.profile.span(VALIDATION):
            self.average.swap()
            row["validation"] = scores = dict(self.calls.validate())
            if scores:  # else no validation case annotates any region
                self._compare(sum(scores.values()) / len(scores))
            self.average.swap()
        _train_mode(self.setup)
        stalled = progress.stale and progress.stale % PLATEAU_PATIENCE == 0
        if stage.schedule == "plateau" and stalled and scores:
            progress.factor /= 2

    def _compare(self, score: float) -> None:
        """Keep the weights, which are the averaged ones now, if they are the best so far."""
        progress = self.progress
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_step, progress.stale = score, progress.step, 0
            progress.best = snapshot(self.setup.network)
        else:
            progress.stale += 1

    def ended(self) -> Fit:
        progress, network = self.progress, self.setup.network
        self.average.swap()
        last = snapshot(network)
        network.module.eval()
        return Fit(
            best=progress.best or last,
            last=last,
            best_step=progress.best_step or progress.step,
            best_score=progress.best_score,
            seconds=time.perf_counter() - self.started,
            waiting_seconds=progress.waiting_seconds,
            at_once=progress.at_once,
        )


def unchanged(network: Network) -> Fit:
    """What a stage without steps ends with."""
    network.module.eval()
    weights = snapshot(network)
    return Fit(weights, weights, 0, None, 0.0, 0.0, None)


def validations(steps: int) -> int:
    """The number of validations of a stage of ``steps`` steps."""
    return min(VALIDATIONS, max(1, steps // VALIDATION_GAP)) if steps else 0


def validation_is_due(step: int, steps: int) -> bool:
    """Whether a stage of ``steps`` steps is validated after ``step``."""
    return _is_due(step, steps, validations(steps))


def _is_due(step: int, steps: int, times: int) -> bool:
    """Whether ``step`` ends one of ``times`` equal parts of ``steps``; the last may be shorter."""
    return step == steps or step % math.ceil(steps / times) == 0


def _train_mode(setup: Setup) -> None:
    train_mode(setup.network, setup.frozen)
    if setup.stage.norm_stats == "frozen":
        hold_norms(setup.network)


def snapshot(network: Network) -> dict[str, Tensor]:
    """The network's tensors on the CPU, shared ones once."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors(network).items()}
