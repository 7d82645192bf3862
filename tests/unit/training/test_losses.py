"""Losses against their published counterparts.

Axes: B batch, L region, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from medtl.training.losses import PartialLoss, dice_ce, dice_ce_softmax


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


# --- what nobody annotated ------------------------------------------------------------------------


def partial_sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and exclusive targets of three regions; some voxels, and in one case one region, are
    unknown."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 5, 6, 7), generator=random, dtype=torch.float64)
    classes = torch.randint(4, (2, 5, 6, 7), generator=random)
    target = torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)[:, 1:].double()
    target[1, 2] = torch.nan  # the third region was not looked for in the second case
    target[:, :, :2] = torch.nan  # and nothing was labelled here
    return logits, target


@pytest.mark.parametrize("make", [dice_ce, dice_ce_softmax])
def test_no_gradient_comes_from_ignored_voxels(make: Callable[[], PartialLoss]) -> None:
    logits, target = partial_sample(0)
    loss = make()
    loss.partial = True
    logits.requires_grad_()
    loss(logits, target).backward()
    assert (logits.grad[:, :, :2] == 0).all()
    assert (logits.grad[:, :, 2:].abs().amax((2, 3, 4)) > 0)[:, :2].all()


@pytest.mark.parametrize("make", [dice_ce, dice_ce_softmax])
def test_loss_is_that_of_the_labelled_part(make: Callable[[], PartialLoss]) -> None:
    logits, target = partial_sample(1)
    target[1, 2] = 0
    target[:, :, :2] = torch.nan
    expected = make()(logits[:, :, 2:], target[:, :, 2:])
    loss = make()
    loss.partial = True
    torch.testing.assert_close(loss(logits, target), expected)


def test_no_gradient_comes_from_a_region_that_was_not_looked_for() -> None:
    logits, target = partial_sample(2)
    loss = dice_ce()
    loss.partial = True
    logits.requires_grad_()
    loss(logits, target).backward()
    assert (logits.grad[1, 2] == 0).all() and (logits.grad[0, 2, 2:] != 0).all()


def test_marginal_loss_is_the_dense_formula() -> None:
    """A voxel of no annotated region may be background or of any region that was not looked for:
    its probability is the sum of theirs (float64, voxel by voxel)."""
    logits, target = partial_sample(3)
    loss = dice_ce_softmax()
    loss.partial = True
    entropy: list[float] = []
    overlap, total = [1.0] * 3, [1.0] * 3
    for b, i, j, k in np.ndindex(2, 5, 6, 7):
        odds = np.exp([0.0, *logits[b, :, i, j, k].tolist()])
        probability = odds / odds.sum()
        truth = target[b, :, i, j, k].tolist()
        known = [n for n in range(3) if not math.isnan(truth[n])]
        for n in known:
            overlap[n] += 2 * probability[1 + n] * truth[n]
            total[n] += probability[1 + n] + truth[n]
        if not known:
            continue
        own = [1 + n for n in known if truth[n] == 1]
        may_be = own or [0, *(1 + n for n in range(3) if n not in known)]
        entropy.append(-math.log(probability[may_be].sum()))
    expected = 1 - np.mean(np.divide(overlap, total)) + np.mean(entropy)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_batch_without_any_known_voxel_costs_nothing() -> None:
    for make in (dice_ce, dice_ce_softmax):
        loss = make()
        loss.partial = True
        logits = torch.randn((1, 2, 4, 4), requires_grad=True)
        found = loss(logits, torch.full((1, 2, 4, 4), torch.nan))
        found.backward()
        assert float(found.detach()) == 0 and not logits.grad.any()
