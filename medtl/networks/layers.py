"""Layers of classifiers.

Layers that end in ReLU include it, so a list of layers may be cut into blocks anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class _ThenReLU(nn.Module):
    """Mixin: the layer, then ReLU."""

    def forward(self, batch: Tensor) -> Any:
        return functional.relu(super().forward(batch), inplace=True)


class Conv2dReLU(_ThenReLU, nn.Conv2d):
    """2-D convolution, then ReLU."""


class Conv3dReLU(_ThenReLU, nn.Conv3d):
    """3-D convolution, then ReLU."""


class BatchNorm2dReLU(_ThenReLU, nn.BatchNorm2d):
    """2-D batch norm, then ReLU."""


class BatchNorm3dReLU(_ThenReLU, nn.BatchNorm3d):
    """3-D batch norm, then ReLU."""


class LinearReLU(_ThenReLU, nn.Linear):
    """Linear layer, then ReLU."""


def perceptron(
    inputs: int, hidden: Sequence[tuple[int, float]], outputs: int
) -> nn.Sequential | nn.Linear:
    """Hidden layers, each (units, dropout after it), and a linear layer for the outputs.

    In the sequence they are numbered as in torchvision: linear, ReLU, dropout. Without hidden
    layers, the linear layer alone.
    """
    layers = nn.Sequential()
    for number, (size, dropped) in enumerate(hidden):
        layers.add_module(str(3 * number), LinearReLU(inputs, size))
        layers.add_module(str(3 * number + 2), nn.Dropout(dropped))
        inputs = size
    last = nn.Linear(inputs, outputs)
    if not hidden:
        return last
    layers.add_module(str(3 * len(hidden)), last)
    return layers


def start_as_published(module: nn.Module) -> None:
    """Convolutions as He et al. 2015 propose for ReLU (fan out), zero biases; norms keep 1 and 0.

    For ``module.apply``. Torchvision initialises its VGG and ResNet so.
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
