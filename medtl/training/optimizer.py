"""What moves the weights: optimisers by name, the schedule of their rates, a running average."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, partition, tensors
from medtl.transfer.strategies.base import AVERAGE, WARMUP, Stage

#: Exponent of the polynomial schedule (Isensee et al. 2021).
POWER = 0.9


#: What each optimiser usually takes off the weights: decoupled for adamw, in the gradient for sgd.
WEIGHT_DECAY = {"adamw": 1e-2, "adam": 0.0, "sgd": 1e-4}


class EMA:
    """Exponential running average of a network's floating tensors, with a warm-up: what is
    validated and kept."""

    def __init__(self, network: Network, decay: float = AVERAGE) -> None:
        self.decay = decay
        floating = {n: t for n, t in tensors(network).items() if t.is_floating_point()}
        self.names = tuple(floating)
        self.live = list(floating.values())
        self.mean = [tensor.detach().clone() for tensor in self.live]

    def named(self) -> dict[str, Tensor]:
        """The averages by the names of their tensors."""
        return dict(zip(self.names, self.mean, strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step ``step`` (1-based)."""
        decay = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(self.mean, [tensor.detach() for tensor in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and their average."""
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.detach().clone()
            live.detach().copy_(mean)
            mean.copy_(kept)


def scheduled(schedule: str, step: int, steps: int, warmup: float = WARMUP) -> float:
    """Factor on the rates at ``step`` (1-based): linear in the first ``warmup`` of the steps, then
    by a cosine or a power of the rest to 0, or constant."""
    risen = min(1.0, step / max(1.0, warmup * steps))
    if schedule == "cosine":
        return risen * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    if schedule == "polynomial":
        return float(risen * (1 - (step - 1) / steps) ** POWER)
    if schedule in ("plateau", "constant"):
        return risen
    raise ConfigError(f"unknown schedule {schedule!r}; use cosine, polynomial, plateau or constant")


def build_optimizer(
    network: Network, stage: Stage, frozen: tuple[str, ...], *, fused: bool = True
) -> torch.optim.Optimizer:
    """One parameter group per rate; frozen tensors are left out.

    ``fused``: one kernel for all parameters, a seventh of the time; it cannot be had together with
    the gradient scaling and clipping of fp16.
    """
    block_of = partition(network)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, tensor in tensors(network).items():
        if isinstance(tensor, nn.Parameter) and name not in frozen:
            rate = stage.rates.get(block_of[name], stage.rates["*"])
            groups.setdefault(rate, []).append(tensor)
    parameters = [{"params": members, "lr": rate} for rate, members in groups.items()]
    if not parameters:
        raise ConfigError(
            f"stage {stage.name}: every block is frozen; nothing would be trained; freeze less"
        )
    if stage.optimizer not in WEIGHT_DECAY:
        raise ConfigError(f"unknown optimizer {stage.optimizer!r}; use adamw, adam or sgd")
    decay = WEIGHT_DECAY[stage.optimizer] if stage.weight_decay is None else stage.weight_decay
    if stage.optimizer == "sgd":
        nesterov = stage.momentum > 0
        return torch.optim.SGD(
            parameters, momentum=stage.momentum, nesterov=nesterov, weight_decay=decay
        )
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, weight_decay=decay, fused=fused)
