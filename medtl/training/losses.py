"""Losses by name, and the kinds of loss.

A loss is a module that returns a scalar. It is called as ``loss(logits, target)`` (B, L, ...),
unless it inherits :class:`FeatureLoss` or :class:`WeightLoss`. Where labels are known only in part,
the target holds NaN, and the loss must inherit :class:`PartialLoss`. A loss may own parameters:
they are trained with the network and kept with the state to resume from.

Axes: B batch, F feature, L region or class.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.blocks import Network, tensors
from medtl.plugins.catalog import Catalog
from medtl.runtime.distributed import summed
from medtl.transfer.strategies.base import LossSpec, Stage


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


class PartialLoss(nn.Module):
    """A loss that leaves out voxels and regions that nobody annotated.

    The target is NaN there. No gradient may come from them, and the loss must be that of the rest.
    """

    partial = False  #: whether targets hold NaN at all; set before training


class DiceCE(PartialLoss):
    """Soft Dice per region plus binary cross-entropy on every voxel, in equal parts.

    Regions overlap (WT holds TC holds ET), so each has a sigmoid of its own. Dice is taken over
    the batch (Isensee et al. 2021), so an empty region in one patch does not decide it. What nobody
    annotated is left out of both.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.float()
        if self.partial:
            return self._of_known(logits, target)
        dice = batch_dice(torch.sigmoid(logits), target, self.smooth)
        return 1 - dice + functional.binary_cross_entropy_with_logits(logits, target)

    def _of_known(self, logits: Tensor, target: Tensor) -> Tensor:
        known, truth = ~target.isnan(), target.nan_to_num()
        dice = batch_dice(torch.sigmoid(logits).where(known, 0), truth, self.smooth)
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return 1 - dice + mean_where(known, each)


class SoftmaxLoss(nn.Module):
    """A loss for regions that exclude each other: with the background, each voxel is of one.

    The outputs are the logits of the regions; that of the background is 0. So a voxel is of the
    region with the highest logit, if that is positive, as for other losses.
    """


class SoftmaxDiceCE(SoftmaxLoss, PartialLoss):
    """Soft Dice per region, without the background, plus cross-entropy, in equal parts.

    Both are taken on the softmax over the regions and the background (Isensee et al. 2021), Dice
    over the batch. Where a region was not annotated, "no region" may be this one, too: there the
    cross-entropy of the background is that of both together (the marginal loss of Shi et al. 2021).
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.float()
        if self.partial:
            return self._of_known(logits, target)
        background = 1 - target.sum(1, keepdim=True)
        every = self._log_softmax(logits)
        truth = torch.cat((background, target), dim=1)
        dice = batch_dice(every[:, 1:].exp(), target, self.smooth)
        return 1 - dice - (truth * every).sum(1).mean()

    def _of_known(self, logits: Tensor, target: Tensor) -> Tensor:
        known, truth = ~target.isnan(), target.nan_to_num()
        every = self._log_softmax(logits)
        dice = batch_dice(every[:, 1:].exp().where(known, 0), truth, self.smooth)
        background = torch.ones_like(known[:, :1])
        open_ = torch.cat((background, ~known), dim=1)  # what a voxel of no known region may be
        merged = every.masked_fill(~open_, -torch.inf).logsumexp(1)
        each = (truth * every[:, 1:]).sum(1) + (1 - truth.sum(1)) * merged
        return 1 - dice - mean_where(known.any(1), each)

    @staticmethod
    def _log_softmax(logits: Tensor) -> Tensor:
        """Over the background, whose logit is 0, and the regions."""
        return torch.cat((torch.zeros_like(logits[:, :1]), logits), dim=1).log_softmax(1)


def mean_where(known: Tensor, values: Tensor) -> Tensor:
    """The mean of the known values over the batches of all processes; 0 if there are none."""
    parts = torch.stack((values.where(known, 0).sum(), known.sum().to(values.dtype)))
    total, count = summed(parts)
    mean: Tensor = total / count.clamp_min(1)
    return mean


def batch_dice(probability: Tensor, target: Tensor, smooth: float) -> Tensor:
    """The mean over the regions of soft Dice over the batches of all processes."""
    axes = [0, *range(2, target.ndim)]
    shown = (probability * target).sum(axes), probability.sum(axes) + target.sum(axes)
    overlap, total = summed(torch.stack(shown))
    dice: Tensor = (2 * overlap + smooth) / (total + smooth)
    return dice.mean()


def softmax_losses(stage: Stage, catalog: Catalog) -> bool:
    """Whether the stage's losses take the outputs as logits of a softmax."""
    return any(isinstance(loss, SoftmaxLoss) for _, loss in load_losses(stage, catalog))


def load_losses(stage: Stage, catalog: Catalog) -> list[tuple[LossSpec, nn.Module]]:
    """The losses of a stage, bound to nothing yet."""
    return [(spec, catalog.losses[spec.name].load()(**spec.params)) for spec in stage.losses]


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


def dice_ce_softmax(smooth: float = 1.0) -> nn.Module:
    """Build :class:`SoftmaxDiceCE`; ``smooth`` in voxels keeps empty regions finite."""
    return SoftmaxDiceCE(smooth)


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
