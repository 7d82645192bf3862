"""Running statistics of norms: frozen, or estimated anew on other images.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from medtl.errors import ConfigError
from medtl.networks.blocks import Network
from medtl.networks.trace import execution_order, mode
from medtl.runtime.device import in_double


def running_norms(module: nn.Module) -> dict[str, _NormBase]:
    """Name -> layer that normalises by running statistics."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _NormBase) and part.running_mean is not None
    }


def hold_norms(network: Network) -> None:
    """Put the norms into evaluation mode: their running statistics are used and do not change."""
    for norm in running_norms(network.module).values():
        norm.eval()


def check_norms(network: Network) -> None:
    """Raise ConfigError for a network whose norms have no running statistics."""
    if not running_norms(network.module):
        raise ConfigError(
            f"network {network.name} keeps no running statistics of its norms, so there are none "
            "to adapt; choose one with batch norm, for example unet-batch-norm or resnet18"
        )


@torch.no_grad()
def estimate_norms(network: Network, batches: Callable[[], Iterable[Tensor]]) -> None:
    """Set running statistics to the mean and variance over all the images (Li et al. 2016, AdaBN).

    Layer by layer in order of execution, so that each layer's input already follows the new
    statistics. The result does not depend on how the images are divided into ``batches``
    (B, C, ...).
    """
    check_norms(network)
    norms = running_norms(network.module)
    first = next(iter(batches()))
    order = [name for name in execution_order(network.module, first.shape) if name in norms]
    with mode(network.module, training=False):
        for name in order:
            norm = norms[name]
            moments = _Moments()
            with norm.register_forward_pre_hook(moments.add):
                for batch in batches():
                    network.module(batch)
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(moments.mean_C)
            norm.running_var.copy_(moments.squares_C / max(1, moments.count - 1))


@dataclass(slots=True)
class _Moments:
    """Mean, and sum of squared distances from it, per channel (Chan et al. 1979)."""

    count: int = 0
    mean_C: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares_C: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, _norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook that adds the norm's input, before the norm runs."""
        values_CN = in_double(inputs[0]).transpose(0, 1).flatten(1)
        count, mean_C = values_CN.shape[1], values_CN.mean(1)
        total = self.count + count
        gap_C = mean_C - self.mean_C.to(mean_C)
        self.squares_C = (
            self.squares_C.to(mean_C)
            + (values_CN - mean_C[:, None]).square().sum(1)
            + gap_C.square() * self.count * count / total
        )
        self.mean_C = self.mean_C.to(mean_C) + gap_C * count / total
        self.count = total


def in_batches(images: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Stack the images into batches of at most ``size``."""
    waiting: list[Tensor] = []
    for image in images:
        waiting.append(image)
        if len(waiting) == size:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)
