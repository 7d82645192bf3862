"""Losses that align features against their published formulas, and the plans that use them.

Axes: B batch, F feature.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError
from medtl.shift.metrics.mmd import mmd2
from medtl.transfer.strategies.base import Request, Stage
from medtl_domain_adaptation.adversary import DANN, ramp, reverse
from medtl_domain_adaptation.alignment import BANDWIDTHS, coral, mmd
from medtl_domain_adaptation.strategies import WEIGHTS, adabn, dann
from medtl_domain_adaptation.strategies import coral as plan_coral
from medtl_domain_adaptation.strategies import mmd as plan_mmd

REQUEST = Request(
    parse_domain("grey,site:A"), parse_domain("grey,site:B"), steps=20, batch_size=8, rate=1e-3
)


def features(seed: int, count: int = 7, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)) * 2 + shift


# --- losses ---------------------------------------------------------------------------------------


def test_coral_is_the_scaled_frobenius_distance_of_covariances() -> None:
    source_BF, target_BF = features(0), features(1, 9)
    gap = np.cov(source_BF.numpy(), rowvar=False) - np.cov(target_BF.numpy(), rowvar=False)
    expected = np.linalg.norm(gap, "fro") ** 2 / (4 * 5**2)
    assert float(coral()(source_BF, target_BF, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_coral_by_hand() -> None:
    # Variances 2 and 8 of one feature: (2 - 8)^2 / 4.
    source_BF, target_BF = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [4.0]])
    assert float(coral()(source_BF, target_BF, 0.0)) == pytest.approx(9.0)


def dense_mmd(source_BF: Tensor, target_BF: Tensor) -> float:
    """The sums written out, one pair at a time."""
    both = torch.cat((source_BF, target_BF)).double()
    pairs = [
        float((a - b).square().sum())
        for i, a in enumerate(both)
        for j, b in enumerate(both)
        if i < j
    ]
    median = sorted(pairs)[(len(pairs) - 1) // 2]

    def kernel(a: Tensor, b: Tensor) -> float:
        square = float((a - b).double().square().sum())
        return sum(math.exp(-square / (f * median)) for f in BANDWIDTHS) / len(BANDWIDTHS)

    def within(rows: Tensor) -> float:
        n = len(rows)
        terms = [kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j]
        return sum(terms) / (n * (n - 1))

    between = [kernel(a, b) for a in source_BF for b in target_BF]
    return within(source_BF) + within(target_BF) - 2 * sum(between) / len(between)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_mmd_is_the_unbiased_sum_over_pairs_of_five_kernels(shift: float) -> None:
    source_BF, target_BF = features(0), features(1, shift=shift)
    found = float(mmd()(source_BF, target_BF, 0.0))
    assert found == pytest.approx(dense_mmd(source_BF, target_BF), abs=1e-5)
    # Far from 0, small differences are not lost.
    far = float(mmd()(source_BF + 1000, target_BF + 1000, 0.0))
    assert far == pytest.approx(found, abs=1e-3)


def test_mmd_agrees_with_the_measure_of_shift() -> None:
    source_BF, target_BF = features(0, 8), features(1, 8, shift=1.0)
    squares = torch.pdist(torch.cat((source_BF, target_BF))).square()
    median = float(squares.sort().values[(len(squares) - 1) // 2])
    bandwidths = tuple(math.sqrt(factor * median / 2) for factor in BANDWIDTHS)
    expected = mmd2(source_BF.numpy(), target_BF.numpy(), bandwidths=bandwidths)
    found = float(mmd()(source_BF, target_BF, 0.0))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("build", [coral, mmd])
def test_alignment_moves_features_together(build) -> None:
    target_BF = features(1, 30, shift=2.0)
    source_BF = (features(0, 30) * 3).requires_grad_()
    loss = build()
    before = loss(source_BF, target_BF, 0.0)
    (slope,) = torch.autograd.grad(before, source_BF)
    assert torch.isfinite(slope).all()
    after = loss(source_BF - slope / slope.norm(), target_BF, 0.0)
    assert after < before


@pytest.mark.parametrize("build", [coral, mmd])
def test_equal_features_give_finite_gradients(build) -> None:
    same_BF = torch.ones(4, 3, requires_grad=True)
    loss = build()(same_BF, same_BF, 0.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(same_BF.grad).all()


@pytest.mark.parametrize("build", [coral, mmd])
def test_single_images_have_no_distribution(build) -> None:
    with pytest.raises(ConfigError, match="batches of 2"):
        build()(features(0, 1), features(1, 1), 0.0)


def test_ramp_is_the_published_one() -> None:
    assert ramp(0.0) == 0.0
    assert ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert ramp(1.0) == pytest.approx(0.9999092)


def test_reversal_leaves_values_and_turns_gradients() -> None:
    values = features(0).requires_grad_()
    turned = reverse(values, 0.25)
    assert torch.equal(turned, values)
    turned.square().sum().backward()
    torch.testing.assert_close(values.grad, -0.25 * 2 * values.detach())


def test_critic_learns_what_the_features_unlearn() -> None:
    """The critic's gradient is that of its own cross-entropy; the features' is minus ramp times."""
    torch.manual_seed(0)
    loss = DANN(width=6)
    loss.bind_features(5)
    source_BF, target_BF = features(0).requires_grad_(), features(1, 9).requires_grad_()
    logits_B = loss.critic(torch.cat((source_BF, target_BF)))[:, 0]
    truth_B = torch.tensor([1.0] * 7 + [0.0] * 9)
    p = torch.sigmoid(logits_B)
    plain = -(truth_B * p.log() + (1 - truth_B) * (1 - p).log()).mean()
    wanted = torch.autograd.grad(plain, [source_BF, target_BF, *loss.critic.parameters()])
    found = loss(source_BF, target_BF, 0.3)
    torch.testing.assert_close(found, plain)
    slopes = torch.autograd.grad(found, [source_BF, target_BF, *loss.critic.parameters()])
    for slope, want in zip(slopes[:2], wanted[:2], strict=True):
        torch.testing.assert_close(slope, -ramp(0.3) * want)
    for slope, want in zip(slopes[2:], wanted[2:], strict=True):
        torch.testing.assert_close(slope, want)


# --- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "name"), [(dann, "dann"), (plan_coral, "coral"), (plan_mmd, "mmd")]
)
def test_adapted_stage_differs_from_the_source_stage_by_its_loss_and_images_alone(
    plan, name: str
) -> None:
    source, adapted = plan(REQUEST)
    assert (source.name, adapted.name) == ("source", name)
    assert adapted.unlabelled == REQUEST.target and source.unlabelled is None
    assert adapted.losses[-1].name == name and adapted.losses[-1].weight == WEIGHTS[name]
    assert adapted.select_by == "source-validation"
    same = replace(adapted, name=source.name, unlabelled=None, losses=source.losses)
    assert same == source
    for each in (source, adapted):
        assert (each.domain, each.evaluate_on) == (REQUEST.source, REQUEST.target)


def test_weight_and_selector_are_taken_from_the_request() -> None:
    _, adapted = plan_mmd(replace(REQUEST, alignment=0.3, select_by="im"))
    assert adapted.losses[-1].weight == 0.3 and adapted.select_by == "im"


def test_adabn_trains_nothing_and_takes_statistics_from_the_target() -> None:
    source, adapted = adabn(REQUEST)
    assert (adapted.steps, adapted.norm_stats, adapted.init) == (0, "target", "previous")
    assert adapted.unlabelled == REQUEST.target and source.steps == 20
    only: tuple[Stage, ...] = adabn(replace(REQUEST, init="weights.pt"))
    assert [each.init for each in only] == ["weights.pt"]
    with pytest.raises(ConfigError, match="drop --freeze"):
        adabn(replace(REQUEST, freeze="2"))
