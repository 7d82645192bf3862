"""The one training loop, read top-down, on Lightning Fabric.

Axes: B batch, C modality, L region, then the spatial axes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from medtl.convolutions import small_in_fp32
from medtl.errors import ConfigError, MedtlError
from medtl.networks import Network, all_logits, partition, tensors, train_mode
from medtl.runs import append_line
from medtl.strategies import Stage

WARMUP_SHARE = 0.05
CLIP_NORM = 5.0
WEIGHT_DECAY = 1e-2
#: Decay of the running average of the weights; the average is what is validated and kept.
AVERAGE_DECAY = 0.99
VALIDATIONS = 10
PLATEAU_PATIENCE = 2


class Objective(nn.Module):
    """Network and losses as one module whose forward returns the loss: DDP reduces everything."""

    def __init__(self, network: nn.Module, losses: Iterable[tuple[float, nn.Module]]) -> None:
        super().__init__()
        terms = list(losses)
        self.network = network
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Weighted sum of the losses; deep supervision halves the weight per level."""
        levels = all_logits(self.network(image), image.ndim - 2)
        shares = [0.5**level for level in range(len(levels))]
        total = torch.zeros((), device=image.device)
        for share, logits in zip(shares, levels, strict=True):
            truth = target
            if logits.shape[2:] != target.shape[2:]:
                truth = functional.interpolate(target, size=logits.shape[2:], mode="nearest")
            for weight, loss in zip(self.weights, self.losses, strict=True):
                total = total + share * weight * loss(logits, truth)
        return total / sum(shares)


class Average:
    """Exponential running average of a network's floating tensors, with a warm-up."""

    def __init__(self, network: Network) -> None:
        self.live = [t for t in tensors(network).values() if t.is_floating_point()]
        self.mean = [tensor.detach().clone() for tensor in self.live]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(AVERAGE_DECAY, self.updates / (self.updates + 9))
        torch._foreach_lerp_(self.mean, [tensor.detach() for tensor in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and their average."""
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.detach().clone()
            live.detach().copy_(mean)
            mean.copy_(kept)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a stage ended with: averaged weights, the best by validation and the last."""

    best: dict[str, Tensor]
    last: dict[str, Tensor]
    best_step: int
    best_score: float | None
    seconds: float
    waiting_seconds: float


Validate = Callable[[], Mapping[str, float]]
Advance = Callable[[int, float], None]


def fit(
    network: Network,
    stage: Stage,
    frozen: tuple[str, ...],
    losses: Iterable[tuple[float, nn.Module]],
    loader: Iterable[Mapping[str, Tensor]],
    fabric: Fabric,
    folder: Path,
    *,
    validate: Validate | None = None,
    patience: int | None = None,
    advance: Advance = lambda step, loss: None,
) -> Fit:
    """Train ``stage.steps`` optimiser steps; rows go to ``folder/metrics.jsonl``.

    ``validate`` returns scores of validation patients (higher is better, averaged to select);
    without it the last weights are also the best. ``patience`` counts validations without
    improvement. A loss that is not finite is a MedtlError.
    """
    objective = Objective(network.module, losses)
    optimizer = build_optimizer(network, stage, frozen)
    rates = [group["lr"] for group in optimizer.param_groups]
    model, optimizer = fabric.setup(objective, optimizer)
    average = Average(network)
    rows = folder / "metrics.jsonl"
    every = max(1, math.ceil(stage.steps / VALIDATIONS))
    best: dict[str, Tensor] | None = None
    best_score, best_step, stale, factor = -math.inf, stage.steps, 0, 1.0
    started = time.perf_counter()
    waiting = 0.0
    train_mode(network, frozen)
    batches = iter(loader)
    for step in range(1, stage.steps + 1):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        scale = factor * scheduled(stage.schedule, step, stage.steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        image, target = fabric.to_device((batch["image"], batch["target"]))
        with small_in_fp32(network.module):
            loss = model(image, target)
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP_NORM, error_if_nonfinite=False)
        optimizer.step()
        average.update()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MedtlError(
                f"stage {stage.name}: the loss is not finite at step {step}; "
                "lower --rate or use --precision fp32"
            )
        advance(step, value)
        row: dict[str, Any] = {"step": step, "loss": value, "rate_scale": scale}
        if validate is not None and (step % every == 0 or step == stage.steps):
            average.swap()
            scores = dict(validate())
            score = sum(scores.values()) / len(scores)
            row["validation"] = scores
            if score > best_score:
                best_score, best_step, stale, best = score, step, 0, snapshot(network)
            else:
                stale += 1
            average.swap()
            train_mode(network, frozen)
            if stage.schedule == "plateau" and stale and stale % PLATEAU_PATIENCE == 0:
                factor /= 2
        append_line(rows, row)
        if patience is not None and stale >= patience:
            break
    average.swap()
    last = snapshot(network)
    network.module.eval()
    return Fit(
        best=best or last,
        last=last,
        best_step=best_step if best else step,
        best_score=best_score if best else None,
        seconds=time.perf_counter() - started,
        waiting_seconds=waiting,
    )


def snapshot(network: Network) -> dict[str, Tensor]:
    """The network's tensors on the CPU, shared ones once."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors(network).items()}


def scheduled(schedule: str, step: int, steps: int) -> float:
    """Factor on the rates at ``step`` (1-based): linear warm-up, then cosine to 0 or constant."""
    warmup = min(1.0, step / max(1.0, WARMUP_SHARE * steps))
    if schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    if schedule in ("plateau", "constant"):
        return warmup
    raise ConfigError(f"unknown schedule {schedule!r}; use cosine, plateau or constant")


def build_optimizer(
    network: Network, stage: Stage, frozen: tuple[str, ...]
) -> torch.optim.Optimizer:
    """One parameter group per rate; frozen tensors are left out."""
    block_of = partition(network)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, tensor in tensors(network).items():
        if isinstance(tensor, nn.Parameter) and name not in frozen:
            rate = stage.rates.get(block_of[name], stage.rates["*"])
            groups.setdefault(rate, []).append(tensor)
    parameters = [{"params": members, "lr": rate} for rate, members in groups.items()]
    if not parameters:
        raise ConfigError(f"stage {stage.name}: every block is frozen; nothing would be trained")
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(parameters, weight_decay=WEIGHT_DECAY)
    if stage.optimizer == "adam":
        return torch.optim.Adam(parameters)
    if stage.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.99, nesterov=True, weight_decay=3e-5)
    raise ConfigError(f"unknown optimizer {stage.optimizer!r}; use adamw, adam or sgd")


def build_fabric(device: str, precision: str) -> Fabric:
    """Fabric for one process. ``auto`` takes bf16 where the chip computes in it."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if device == "auto":
        device = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if device not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device {device}: use auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no CUDA device is available; use --device auto")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("--device mps: no Apple GPU is available; use --device auto")
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    names: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    if precision not in names:
        raise ConfigError(f"--precision {precision}: use auto, {', '.join(names)}")
    return Fabric(accelerator=device, devices=1, precision=names[precision])


def has_bf16(device: str) -> bool:
    """Whether the device computes in bf16, not merely emulates it."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast_dtype(fabric: Fabric) -> torch.dtype | None:
    """The autocast type of a fabric's precision, for inference; None in fp32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
        str(fabric._precision.precision)
    )
