"""Unlabelled images beside labelled ones: what the stage does with them, and what it never sees.

Axes: B batch, C channel, I J K voxels, N row, L class, F feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor, nn

from medtl.data.case import Case, ImageFile
from medtl.data.domain import parse_domain
from medtl.errors import ConfigError, Interrupted
from medtl.evaluation.label_free import LABEL_FREE, check_selector, select_score
from medtl.networks.blocks import Block, Network, freeze, partition, tensors
from medtl.networks.norms import estimate_norms, in_batches
from medtl.runtime.device import build_fabric
from medtl.training.feature_loss import BoundFeatureLoss, before_head
from medtl.training.loop import Callbacks, Fit, Setup, fit
from medtl.training.losses import FeatureLoss, cross_entropy, l2_sp
from medtl.training.profiler import Profile
from medtl.training.samples.augmented import Images, blind
from medtl.training.step import Gradients, Objective
from medtl.transfer.strategies.base import Stage
from medtl.transforms.augment import NONE

DOMAIN, OTHER = parse_domain("grey,site:A"), parse_domain("grey,site:B")
STAGE = Stage("adapt", DOMAIN, 6, rates={"*": 1e-2}, batch_size=6, unlabelled=OTHER)


def small(seed: int = 0) -> Network:
    """Two convolutions with batch norm, an average, a linear head."""
    torch.manual_seed(seed)

    def block(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())

    module = nn.Sequential()
    module.add_module("stem", block(1))
    module.add_module("body", block(4))
    module.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    blocks = tuple(
        Block(name, role, (f"{name}.*",))
        for name, role in (("stem", "stem"), ("body", "encoder"), ("head", "head"))
    )
    return Network(
        "small", module, blocks, 1, 3, 2, 4, ("stem.0.weight",), ("head.2.weight", "head.2.bias"),
        dense=False,
    )  # fmt: skip


def images(seed: int, count: int = 6) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def batches(done: int) -> Iterator[dict[str, Tensor]]:
    for step in range(done, 1000):
        target = torch.eye(3)[torch.arange(6) % 3]
        yield {"image": images(step), "target": target, "unlabelled": 2 * images(-1 - step) + 1}


class Critic(FeatureLoss):
    """A loss that owns parameters and sees features."""

    def bind_features(self, features: int) -> None:
        self.layer = nn.Linear(features, 1)

    def forward(self, source_BF: Tensor, target_BF: Tensor, progress: float) -> Tensor:
        gap = self.layer(source_BF).mean() - self.layer(target_BF).mean()
        return (1 + progress) * gap.square()


def losses(network: Network, block: str = "") -> list[tuple[float, nn.Module]]:
    torch.manual_seed(5)
    return [(1.0, cross_entropy()), (0.5, BoundFeatureLoss(Critic(), network, block, images(0)))]


def trained(folder: Path, stage: Stage = STAGE, network: Network | None = None, **options) -> Fit:
    folder.mkdir(exist_ok=True)
    network = network or small()
    terms = options.pop("terms", None) or losses(network)
    fabric = build_fabric("cpu", "fp32")
    setup = Setup(network, stage, (), terms, fabric, folder, seed=0)
    return fit(setup, batches, Callbacks(**options))


# --- the objective --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["", "stem"])
def test_objective_adds_the_loss_of_pooled_features_of_both_domains(block: str) -> None:
    network = small()
    terms = losses(network, block)
    batch = next(batches(0))
    found = Objective(network.module, terms)(
        batch["image"], batch["target"], None, batch["unlabelled"], 0.25
    )
    network = small()  # its running statistics as they were
    features = network.module.get_submodule("stem")(
        torch.cat((batch["image"], batch["unlabelled"]))
    )
    logits = network.module.head(network.module.body(features))[:6]
    if not block:
        features = network.module.body(features)
    pooled_BF = features.mean((2, 3))
    expected = cross_entropy()(logits, batch["target"]) + 0.5 * terms[1][1].loss(
        pooled_BF[:6], pooled_BF[6:], 0.25
    )
    torch.testing.assert_close(found, expected)


def test_features_are_those_of_the_block_before_the_head() -> None:
    assert before_head(small()) == "body"


def test_parameters_of_a_loss_are_trained_and_resumed_to_the_bit(tmp_path: Path) -> None:
    whole_losses = losses(network := small())
    before = whole_losses[1][1].loss.layer.weight.detach().clone()
    whole = trained(tmp_path / "whole", network=network, terms=whole_losses)
    after = whole_losses[1][1].loss.layer.weight.detach()
    assert not torch.equal(before, after)
    count = iter(range(100))
    with pytest.raises(Interrupted):
        trained(tmp_path / "cut", asked_to_stop=lambda: next(count) == 3)
    cut_losses = losses(network := small())
    cut = trained(tmp_path / "cut", network=network, terms=cut_losses)
    assert torch.equal(cut_losses[1][1].loss.layer.weight, after)
    for name, tensor in whole.last.items():
        assert torch.equal(cut.last[name], tensor), name


def test_short_memory_beside_unlabelled_images_is_one_clear_line() -> None:
    network = small()
    fabric = build_fabric("cpu", "fp32")
    objective = Objective(network.module, losses(network))

    def short(*_: Any) -> Tensor:
        raise MemoryError

    fill = Gradients(
        objective, fabric, short, objective.zero_grad, at_once=None, tell=print, profile=Profile()
    )
    batch = next(batches(0))
    with pytest.raises(ConfigError, match=r"6 labelled and 6 unlabelled images of 8x8"):
        fill(batch["image"], batch["target"], 0, batch["unlabelled"])


# --- norms ----------------------------------------------------------------------------------------


def test_frozen_norm_statistics_are_bitwise_unchanged(tmp_path: Path) -> None:
    network = small()
    before = {n: t.clone() for n, t in tensors(network).items() if "running" in n}
    result = trained(tmp_path, replace(STAGE, norm_stats="frozen"), network)
    assert all(torch.equal(result.last[name], tensor) for name, tensor in before.items())
    assert not torch.equal(
        result.last["stem.1.weight"], small().module.state_dict()["stem.1.weight"]
    )


def test_target_statistics_are_mean_and_variance_over_all_images() -> None:
    network = small()
    shown = 3 * images(1, 10) + 2
    estimate_norms(network, lambda: in_batches(shown, 4))
    stem, body = network.module.stem, network.module.body
    with torch.no_grad():
        for layer, convolution, inputs in ((stem[1], stem[0], shown), (body[1], body[0], None)):
            if inputs is None:  # what the stem gives with its new statistics
                network.module.eval()
                inputs = stem(shown)
            values = convolution(inputs).transpose(0, 1).flatten(1).double()
            torch.testing.assert_close(
                layer.running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-6
            )
            torch.testing.assert_close(
                layer.running_var.double(), values.var(1), rtol=1e-5, atol=1e-6
            )


def test_target_statistics_do_not_depend_on_the_batches() -> None:
    one, other = small(), small()
    shown = images(1, 9)
    estimate_norms(one, lambda: in_batches(shown, 9))
    estimate_norms(other, lambda: in_batches(shown, 2))
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(tensors(other)[name], tensor, rtol=1e-5, atol=1e-6)


def test_network_without_running_statistics_has_none_to_adapt() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4))
    network = replace(small(), module=module)
    with pytest.raises(ConfigError, match="small keeps no running statistics"):
        estimate_norms(network, lambda: iter([images(0)]))


# --- selection without labels ---------------------------------------------------------------------

ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])


def test_selectors_are_their_published_formulas() -> None:
    rows_NL = torch.from_numpy(ROWS)
    each = entropy(ROWS, axis=1)
    assert LABEL_FREE["entropy"](rows_NL) == pytest.approx(-each.mean())
    assert LABEL_FREE["im"](rows_NL) == pytest.approx(entropy(ROWS.mean(0)) - each.mean())
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    total = 0.0
    for i, row in enumerate(unit):
        weights = [math.exp(row @ other / 0.05) for j, other in enumerate(unit) if j != i]
        shares = np.array(weights) / sum(weights)
        total -= float((shares * np.log(shares)).sum())
    assert LABEL_FREE["snd"](rows_NL) == pytest.approx(total / len(ROWS))


def test_sure_and_diverse_predictions_are_preferred() -> None:
    sure = torch.eye(3).repeat(4, 1)
    collapsed = torch.eye(3)[:1].repeat(12, 1)
    unsure = torch.full((12, 3), 1 / 3)
    for name in ("entropy", "im"):
        assert LABEL_FREE[name](sure) > LABEL_FREE[name](unsure) - 1e-9
    assert LABEL_FREE["im"](sure) == pytest.approx(math.log(3))
    assert LABEL_FREE["im"](collapsed) == pytest.approx(0, abs=1e-9)
    assert select_score("im", [sure, collapsed]) == {"im": pytest.approx(math.log(3) / 2)}


def test_selectors_are_refused_where_they_have_nothing_to_look_at() -> None:
    check_selector("source-validation", unlabelled=False)
    with pytest.raises(ConfigError, match="sees none"):
        check_selector("snd", unlabelled=False)
    with pytest.raises(ConfigError, match="entropy, im, snd"):
        check_selector("sdn", unlabelled=True)
    with pytest.raises(ConfigError, match="there is one"):
        select_score("snd", [torch.tensor([[0.3, 0.7]])])


# --- anchoring ------------------------------------------------------------------------------------


def test_l2_sp_is_the_distance_from_the_start_and_the_size_of_what_is_new() -> None:
    network = small()
    freeze(network, [name for name, owner in partition(network).items() if owner == "stem"])
    loss = l2_sp(alpha=0.3, beta=0.2)
    loss.bind_weights(network, ("head.2.weight", "head.2.bias"))
    start = {name: tensor.detach().clone() for name, tensor in tensors(network).items()}
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter += 0.1
    now = tensors(network)
    kept = ("body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias")
    moved = sum(float((now[name] - start[name]).detach().square().sum()) for name in kept)
    size = sum(float(now[f"head.2.{part}"].detach().square().sum()) for part in ("weight", "bias"))
    assert float(loss().detach()) == pytest.approx(0.15 * moved + 0.1 * size, rel=1e-5)
    loss().backward()
    torch.testing.assert_close(
        now["body.0.weight"].grad, 0.3 * (now["body.0.weight"] - start["body.0.weight"]).detach()
    )
    assert now["stem.0.weight"].grad is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_l2_sp_follows_a_network_that_moves_to_another_device() -> None:
    network, loss = small(), l2_sp()
    loss.bind_weights(network, ())
    network.module.cuda()
    assert float(loss().detach()) == 0


def test_l2_sp_without_decay_holds_the_start(tmp_path: Path) -> None:
    """Without a gradient of the labels, nothing moves."""

    class Nothing(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return 0 * logits.sum()

    network = small()
    loss = l2_sp()
    loss.bind_weights(network, ())
    before = {
        name: t.detach().clone() for name, t in tensors(network).items() if "running" not in name
    }
    stage = replace(STAGE, weight_decay=0.0)
    result = trained(tmp_path, stage, network, terms=[(1.0, Nothing()), (1.0, loss)])
    for name, tensor in before.items():
        if tensor.is_floating_point():
            assert torch.equal(result.last[name], tensor), name


@pytest.mark.parametrize("at_once", [1, 2])
def test_parts_give_the_gradients_of_weights_too(at_once: int) -> None:
    def gradients(size: int | None) -> list[Tensor]:
        network = small()
        network.module.eval()  # batch norm sees one part at a time
        loss = l2_sp(alpha=0.5)
        loss.bind_weights(network, ("head.2.weight",))
        fabric = build_fabric("cpu", "fp32")
        objective = Objective(network.module, [(1.0, cross_entropy()), (2.0, loss)])
        model = fabric.setup_module(objective)
        fill = Gradients(
            objective,
            fabric,
            model,
            objective.zero_grad,
            at_once=size,
            tell=print,
            profile=Profile(),
        )
        batch = next(batches(0))
        fill(batch["image"], batch["target"], 0)
        return [parameter.grad.clone() for parameter in network.module.parameters()]

    for one, other in zip(gradients(at_once), gradients(None), strict=True):
        torch.testing.assert_close(one, other)


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 4)])
def test_patches_are_cut_anywhere_in_volumes_of_blind_cases(patch: tuple[int, ...]) -> None:
    volume_IJK = torch.arange(8 * 8 * 8.0).reshape(8, 8, 8)
    cached: Any = [{"image": volume_IJK[None]}, {"image": -volume_IJK[None]}]
    shown = Images(cached, 2, NONE, patch, "key", whole=False)
    corners = set()
    for sample in range(40):
        patch_CIJK = shown[sample].abs()
        assert patch_CIJK.shape == (1, *patch)
        corner = np.unravel_index(int(patch_CIJK.flatten()[0]), (8, 8, 8))
        box = tuple(slice(start, start + 4) for start in corner)
        if len(patch) == 2:
            box = (*box[:2], slice(corner[2], corner[2] + 1))
        assert torch.equal(patch_CIJK.flatten(), volume_IJK[box].flatten())
        corners.add(corner)
    assert len(corners) > 20
    assert {float(shown[n].sign().flatten()[-1]) for n in (0, 1)} == {-1.0, 1.0}


def test_blind_cases_know_nothing_of_their_truth() -> None:
    file = ImageFile(Path("x.png"))
    case = Case(
        "a", "p", {"grey": file}, file, {"WT": (1,)}, (0, 1), "tumor", file, "B", "Training"
    )
    (found,) = blind([replace(case, stratum="tumor", fold=3)])
    assert found == Case("a", "p", {"grey": file}, site="B", part="Training", fold=3)
    assert case.labelled and not found.labelled
