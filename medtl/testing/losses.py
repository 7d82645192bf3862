"""What a loss must keep, by what it sees (:mod:`medtl.training.losses`).

Axes: B batch, L region or class, F feature, I J voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from medtl.testing.check import Tried, require
from medtl.testing.toys import BATCH, seeded, toy_batches, toy_network
from medtl.training.feature_loss import BoundFeatureLoss
from medtl.training.losses import FeatureLoss, PartialLoss, WeightLoss

CLASSES, EDGE = 3, 8


#: Size of the logits of right and of wrong answers.
SURE = 4.0


def loss_of(tried: Tried) -> nn.Module:
    with seeded(0):
        return tried.returned(nn.Module)


def answers() -> list[Tensor]:
    """Targets that a loss may be for: of voxels (BLIJ), and of whole images (BL)."""
    draw = torch.Generator().manual_seed(0)
    voxels = torch.randint(CLASSES, (BATCH, EDGE, EDGE), generator=draw)
    of_voxels, of_images = one_hot(voxels, CLASSES).movedim(-1, 1), one_hot(torch.arange(BATCH) % 3)
    return [of_voxels.float(), of_images.float()]


def scored(tried: Tried, make: Callable[[Tensor], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """``make``'s logits of each target and their loss, of those that it takes."""
    found, problem = [], ""
    for target in answers():
        logits = make(target).requires_grad_()
        loss = loss_of(tried)
        try:
            found.append((logits, loss(logits, target)))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
    require(found, f"called as loss(logits, target), it takes neither maps nor classes ({problem})")
    return found


def noise(target: Tensor) -> Tensor:
    return torch.randn(target.shape, generator=torch.Generator().manual_seed(1))


def values(tried: Tried) -> list[tuple[list[Tensor], Tensor]]:
    """What its gradient must reach, and its value, in each way that it can be called."""
    loss = loss_of(tried)
    if isinstance(loss, WeightLoss):
        return [_of_weights(loss)]
    if isinstance(loss, FeatureLoss):
        return [_of_features(loss)]
    return [([logits], value) for logits, value in scored(tried, noise)]


def _of_weights(loss: WeightLoss) -> tuple[list[Tensor], Tensor]:
    network = toy_network()
    loss.bind_weights(network, ())
    weights: list[Tensor] = list(network.module.parameters())
    with torch.no_grad():
        for tensor in weights:
            tensor.add_(0.1)
    return weights, loss()


def _of_features(loss: FeatureLoss) -> tuple[list[Tensor], Tensor]:
    batch, features = next(toy_batches())["image"], torch.Generator().manual_seed(2)
    seen = torch.randn(2 * BATCH, 6, EDGE, EDGE, generator=features).requires_grad_()
    with seeded(3):
        return [seen], BoundFeatureLoss(loss, toy_network(), "", batch)(seen, BATCH, 0.5)


def value_is_one_finite_number(tried: Tried) -> None:
    """It returns a scalar tensor that is finite."""
    for _, value in values(tried):
        require(isinstance(value, Tensor), f"it returns {type(value).__name__}, not a tensor")
        shape = "x".join(map(str, value.shape))
        require(value.ndim == 0, f"it returns a tensor of {shape}; average it to a scalar")
        require(torch.isfinite(value), f"it is {value.item()}; keep it finite")


def gradient_reaches_what_it_sees(tried: Tried) -> None:
    """Its gradient is finite and not 0 with respect to logits, features or weights."""
    for seen, value in values(tried):
        differentiable = value.requires_grad
        require(differentiable, "no gradient leads back from it; compute it from tensors only")
        gradients = torch.autograd.grad(value, seen, allow_unused=True)
        reached = [gradient for gradient in gradients if gradient is not None]
        require(reached and any(g.any() for g in reached), "its gradient is 0; nothing is learnt")
        finite = all(torch.isfinite(gradient).all() for gradient in reached)
        require(finite, "its gradient is not finite")


def right_answers_cost_less(tried: Tried) -> None:
    """One that sees labels is lower for logits that agree with them than for the opposite."""
    if isinstance(loss_of(tried), FeatureLoss | WeightLoss):
        return
    right = scored(tried, lambda target: SURE * (2 * target - 1))
    wrong = scored(tried, lambda target: -SURE * (2 * target - 1))
    for (_, low), (_, high) in zip(right, wrong, strict=True):
        found = f"it is {low.item():.3g} for right answers and {high.item():.3g} for wrong ones"
        require(low < high, f"{found}; it is minimised, so turn its sign")


def what_nobody_annotated_costs_nothing(tried: Tried) -> None:
    """A loss for partial targets leaves out images of NaN; without NaN it is the same."""
    loss = loss_of(tried)
    if not isinstance(loss, PartialLoss):
        return
    target = answers()[0]
    logits = noise(target).requires_grad_()
    hidden = target.clone()
    hidden[0] = torch.nan
    plain, rest = loss(logits, target), loss(logits[1:], target[1:])
    loss.partial = True
    same, found = loss(logits, target), loss(logits, hidden)
    require(
        torch.allclose(plain, same, rtol=1e-4),
        f"where all is known it is {plain.item():.4g}, and with partial {same.item():.4g}",
    )
    require(
        torch.allclose(found, rest, rtol=1e-4),
        f"without one image it is {rest.item():.4g}, and with NaN for its target "
        f"{found.item():.4g}; leave out what is NaN",
    )
    (gradient,) = torch.autograd.grad(found, logits)
    require(not gradient[0].any(), "a gradient comes from where the target is NaN")


def parameters_of_its_own_can_be_kept(tried: Tried) -> None:
    """Its state can be saved and loaded, to resume from."""
    loss, other = loss_of(tried), loss_of(tried)
    for made in (loss, other):
        if isinstance(made, FeatureLoss):
            made.bind_features(6)
    other.load_state_dict(loss.state_dict())
