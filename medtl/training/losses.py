"""Losses by name, and the three kinds of loss.

A loss is a module that returns a scalar. It is called as ``loss(logits, target)`` (B, L, ...),
unless it inherits :class:`FeatureLoss` or :class:`WeightLoss`. A loss may own parameters: they are
trained with the network and kept with the state to resume from.

Axes: B batch, F feature, L region or class.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.blocks import Network, tensors
from medtl.runtime.distributed import summed


class FeatureLoss(nn.Module):
    """A loss on features of labelled and unlabelled images: no label reaches it.

    It is called as ``loss(source_BF, target_BF, progress)`` with a block's output, averaged over
    space, in float32, of the images of all processes. ``progress`` goes from 0 at a stage's first
    step towards 1.
    """

    def bind_features(self, features: int) -> None:
        """Create the parameters that depend on the number of features, F. Called once."""


class WeightLoss(nn.Module):
    """A loss on the network's weights, called as ``loss()`` after :meth:`bind_weights`."""

    def bind_weights(self, network: Network, new: Collection[str]) -> None:
        """Take the weights that the stage starts from. Called once.

        Args:
            network: the network to be trained, transferred weights included.
            new: names of the tensors that were not transferred.
        """
        raise NotImplementedError


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


class L2SP(WeightLoss):
    """``alpha/2 |w - w0|^2`` over what was transferred, ``beta/2 |w|^2`` over what starts anew.

    Li, Grandvalet and Davoine 2018 (L2-SP). It takes the place of weight decay: its
    stage has none.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 0.01) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._new: list[Tensor] = []

    def bind_weights(self, network: Network, new: Collection[str]) -> None:
        """Start here. Frozen tensors are left out: they cannot move."""
        trained = {
            name: tensor
            for name, tensor in tensors(network).items()
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad
        }
        self._new = [tensor for name, tensor in trained.items() if name in new]
        # Not buffers: they are known anew whenever a stage starts, and need not be kept with it.
        self._kept = [
            (tensor, tensor.detach().clone()) for name, tensor in trained.items() if name not in new
        ]

    def forward(self) -> Tensor:
        # A trial of a plan binds on the CPU, and moves the network afterwards.
        starts = [(tensor, start.to(tensor.device)) for tensor, start in self._kept]
        moved = [(tensor.float() - start).square().sum() for tensor, start in starts]
        sizes = [tensor.float().square().sum() for tensor in self._new]
        total = torch.zeros((), device=(moved or sizes)[0].device)
        return total + self.alpha / 2 * sum(moved) + self.beta / 2 * sum(sizes)


def l2_sp(alpha: float = 0.1, beta: float = 0.01) -> nn.Module:
    """Build :class:`L2SP`."""
    return L2SP(alpha, beta)
