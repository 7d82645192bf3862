"""Losses by name, and what a loss may see.

A loss returns a scalar. By default it is called as ``loss(logits, target)`` (B, L, ...). One with
the attribute ``sees = "features"`` is called as ``loss(source_BF, target_BF, progress)``, see
:class:`medtl.features.FeatureLoss`; one with ``sees = "weights"`` as ``loss()``, after
``bind(network, new)`` told it the weights that the stage starts from. A loss may own parameters:
they are trained with the network and kept with the state to resume from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.processes import summed


class DiceCE(nn.Module):
    """Soft Dice per region plus binary cross-entropy on every voxel, in equal parts.

    Regions overlap (WT holds TC holds ET), so each has a sigmoid of its own. Dice is taken over
    the batch (Isensee et al. 2021), so an empty region in one patch does not decide it.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.float()
        axes = [0, *range(2, logits.ndim)]
        probability = torch.sigmoid(logits)
        shown = (probability * target).sum(axes), probability.sum(axes) + target.sum(axes)
        overlap, total = summed(torch.stack(shown))
        dice: Tensor = (2 * overlap + self.smooth) / (total + self.smooth)
        return 1 - dice.mean() + functional.binary_cross_entropy_with_logits(logits, target)


class CrossEntropy(nn.Module):
    """Softmax cross-entropy; ``target`` holds the probability of each class, as the logits do."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), target.float())


def cross_entropy() -> nn.Module:
    """Build :class:`CrossEntropy`: each image, or voxel, is of one class."""
    return CrossEntropy()


def dice_ce(smooth: float = 1.0) -> nn.Module:
    """Build :class:`DiceCE`; ``smooth`` in voxels keeps empty regions finite."""
    return DiceCE(smooth)
