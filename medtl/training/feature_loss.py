"""Losses on a block's features of labelled and unlabelled images, side by side.

Axes: B batch, F feature, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.blocks import Network
from medtl.networks.hooks import block_features, record_blocks
from medtl.networks.trace import mode
from medtl.runtime.distributed import gathered
from medtl.training.losses import FeatureLoss


class BoundFeatureLoss(nn.Module):
    """A ``FeatureLoss`` bound to a network and to one of its blocks."""

    def __init__(self, loss: FeatureLoss, network: Network, block: str, batch: Tensor) -> None:
        """``block``: "" is the one before the head; ``batch``: any images (B, C, ...)."""
        super().__init__()
        self.block = block or before_head(network)
        self.network = network  # no module: its weights are not the loss's
        # No pass through the network for a loss without parameters of its own.
        if type(loss).bind_features is not FeatureLoss.bind_features:
            with torch.no_grad(), mode(network.module, training=False):
                features = block_features(network, batch, (self.block,))
            loss.bind_features(pooled(features[self.block]).shape[1])
        self.loss = loss

    def forward(self, features: Tensor, labelled: int, progress: float) -> Tensor:
        """``features``: the block's output; labelled images come first."""
        features_BF = pooled(features)
        with torch.autocast(features.device.type, enabled=False):
            value: Tensor = self.loss(
                gathered(features_BF[:labelled]), gathered(features_BF[labelled:]), progress
            )
        return value


def before_head(network: Network) -> str:
    """The last block that is not the head."""
    names = [block.name for block in network.blocks if block.role != "head"]
    if not names:
        raise ConfigError(
            f"{network.name} is all head: it has no features to align; choose another --network"
        )
    return names[-1]


def pooled(features: Tensor) -> Tensor:
    """features_BF: the mean over space, in float32."""
    features = features.float()
    return features.flatten(2).mean(2) if features.ndim > 2 else features


@contextmanager
def watched(losses: list[BoundFeatureLoss]) -> Iterator[Mapping[str, Tensor]]:
    """Within it, forward passes leave the blocks' outputs that ``losses`` see."""
    if not losses:
        yield {}
        return
    with record_blocks(losses[0].network, {loss.block for loss in losses}) as features:
        yield features
