"""Domain-adversarial training: features from which no critic can recognise the domain.

Axes: B batch, F feature.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.training.losses import FeatureLoss

#: How fast the reversal sets in (gamma of Ganin et al. 2016, section 5.2.2).
RAMP = 10.0


class DANN(FeatureLoss):
    """Loss of a critic of the domain, with its gradient reversed for the features.

    Ganin et al. 2016: the critic (two layers) learns to separate the domains, the features learn
    the opposite, times ramp(progress). Cross-entropy, the mean over both domains.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.critic: nn.Module = nn.Identity()

    def bind_features(self, features: int) -> None:
        self.critic = nn.Sequential(
            nn.Linear(features, self.width), nn.ReLU(), nn.Linear(self.width, 1)
        )

    def forward(self, source_BF: Tensor, target_BF: Tensor, progress: float) -> Tensor:
        reversed_BF = reverse(torch.cat((source_BF, target_BF)), ramp(progress))
        logits_B = self.critic(reversed_BF)[:, 0]
        truth_B = torch.zeros_like(logits_B)
        truth_B[: len(source_BF)] = 1
        return functional.binary_cross_entropy_with_logits(logits_B, truth_B)


def ramp(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1: from 0 towards 1 (Ganin et al. 2016, section 5.2.2)."""
    return 2 / (1 + math.exp(-RAMP * progress)) - 1


def reverse(values: Tensor, factor: float) -> Tensor:
    """The values; their gradient is multiplied by -factor on its way back."""
    reversed_values: Tensor = _Reverse.apply(values, factor)
    return reversed_values


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return -context.factor * slopes[0], None


def dann(width: int = 64) -> nn.Module:
    """Build :class:`DANN`; ``width``: of the critic's hidden layer."""
    return DANN(width)
