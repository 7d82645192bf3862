"""Losses against their published counterparts.

Axes: B batch, L region, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss

from medtl.training.losses import dice_ce, dice_ce_softmax


def sample(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=random)
    return logits.to(dtype), (torch.rand(shape, generator=random) > 0.7).float()


@pytest.mark.parametrize("shape", [(2, 3, 8, 9, 10), (3, 2, 16, 12)])
def test_dice_ce_is_monais_batch_dice_plus_torchs_cross_entropy(shape: tuple[int, ...]) -> None:
    logits, target = sample(shape)
    # MONAI adds its smoothing term to 2 * overlap and to the total alike, as here.
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target)
    entropy = torch.nn.BCEWithLogitsLoss()(logits, target)
    torch.testing.assert_close(dice_ce()(logits, target), dice + entropy)


def test_dice_ce_is_smallest_for_the_truth() -> None:
    _, target = sample((2, 3, 8, 8, 8))
    right = dice_ce()(40 * target - 20, target)
    wrong = dice_ce()(20 - 40 * target, target)
    assert right < 1e-3 < 1 < wrong


def test_empty_region_gives_finite_loss_and_gradient() -> None:
    logits, target = sample((1, 3, 8, 8, 8))
    logits.requires_grad_()
    loss = dice_ce()(logits, target * 0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits, target = sample((2, 3, 32, 32, 32), torch.float16)
    expected = dice_ce()(logits.float(), target)
    torch.testing.assert_close(dice_ce()(logits, target), expected)


def test_softmax_is_taken_with_a_background_whose_logit_is_zero() -> None:
    """Against MONAI's Dice without background and torch's cross-entropy, over L + 1 channels."""
    random = torch.Generator().manual_seed(1)
    logits = torch.randn((2, 3, 6, 7, 8), generator=random)
    classes = torch.randint(4, (2, 6, 7, 8), generator=random)
    target = torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)[:, 1:].float()
    every = torch.cat((torch.zeros(2, 1, 6, 7, 8), logits), dim=1)
    truth = torch.cat((1 - target.sum(1, keepdim=True), target), dim=1)
    settings = {"softmax": True, "include_background": False, "batch": True}
    dice = DiceLoss(**settings, smooth_nr=1.0, smooth_dr=1.0)(every, truth)
    entropy = torch.nn.functional.cross_entropy(every, classes)
    torch.testing.assert_close(dice_ce_softmax()(logits, target), dice + entropy)
