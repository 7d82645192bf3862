"""modality-transfer: its plan, and what it does to a network that meets new contrasts.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError
from medtl.networks.blocks import Network, partition, tensors, train_mode
from medtl.plugins.catalog import load_catalog
from medtl.transfer.prepare import PreparedNetwork, prepare_network
from medtl.transfer.strategies.base import Request, Stage, controls
from medtl.transfer.strategies.finetune import fine_tune
from medtl.transfer.weights import Weights
from medtl_modality_transfer.strategy import modality_transfer

REGIONS = ("WT", "TC", "ET")
REQUEST = Request(
    parse_domain("flair,t1ce"), parse_domain("t1,t2"), steps=100, batch_size=2, rate=1e-3
)


def build(name: str = "unet", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return load_catalog().networks[name].load()(in_channels=2, out_channels=3, width=4)


def weights_of(network: Network, modalities: tuple[str, ...]) -> Weights:
    metadata = {"modalities": list(modalities), "regions": list(REGIONS)}
    values = {name: tensor.detach() for name, tensor in tensors(network).items()}
    return Weights(Path("source.safetensors"), values, metadata, "medtl")


def adapted(
    stage: Stage, source: tuple[str, ...] = ("flair", "t1ce"), **mapping: str
) -> PreparedNetwork:
    weights = weights_of(build(seed=0), source)
    return prepare_network(build(seed=1), stage, weights, REGIONS, mapping=mapping)


def adapt_stage(request: Request = REQUEST) -> Stage:
    return next(each for each in modality_transfer(request) if each.name == "adapt")


def test_plan_is_source_adapt_unfreeze() -> None:
    stages = modality_transfer(REQUEST)
    assert [each.name for each in stages] == ["source", "adapt", "unfreeze"]
    source, adapt, unfreeze = stages
    assert source.domain == REQUEST.source and source.init == "random" and source.steps == 100
    assert adapt.domain == unfreeze.domain == REQUEST.target
    assert adapt.init == unfreeze.init == "previous"
    assert adapt.frozen != "none" and unfreeze.frozen == "none"
    assert adapt.steps + unfreeze.steps == 100
    assert unfreeze.rates["*"] <= adapt.rates["*"]


def test_freeze_option_replaces_the_default_freezing() -> None:
    assert adapt_stage(replace(REQUEST, freeze="layers:25")).frozen == "layers:25"


def test_given_weights_stand_for_the_source_stage() -> None:
    stages = modality_transfer(replace(REQUEST, init="runs/x"))
    assert [(each.name, each.init) for each in stages] == [
        ("adapt", "runs/x"),
        ("unfreeze", "previous"),
    ]


def test_smallest_budget_still_adapts() -> None:
    stages = modality_transfer(replace(REQUEST, steps=1))
    assert [(each.name, each.steps) for each in stages] == [("source", 1), ("adapt", 1)]


def test_controls_get_the_steps_of_the_target_and_of_all() -> None:
    arms = controls(REQUEST, modality_transfer(REQUEST))
    assert [arm.steps for arm in arms] == [100, 200]


def test_stem_with_a_new_modality_stays_trainable() -> None:
    prepared = adapted(replace(adapt_stage(), frozen="2"))
    owners = partition(prepared.network)
    stem, second = [block.name for block in prepared.network.blocks[:2]]
    assert {owners[name] for name in prepared.frozen} == {second}
    assert any(stem in note and "t1" in note for note in prepared.receipt.notes)
    state = tensors(prepared.network)
    for name, tensor in state.items():
        if isinstance(tensor, nn.Parameter):
            assert tensor.requires_grad == (owners[name] != second)


def test_stem_without_a_new_modality_is_frozen() -> None:
    stage = replace(adapt_stage(), frozen="2", domain=parse_domain("t1ce,flair"))
    prepared = adapted(stage)
    owners = partition(prepared.network)
    assert {owners[n] for n in prepared.frozen} == {b.name for b in prepared.network.blocks[:2]}


def test_trainable_share_counts_parameters() -> None:
    prepared = adapted(replace(adapt_stage(), frozen="2"))
    parameters = list(prepared.network.module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    assert prepared.trainable_share() == pytest.approx(
        trainable / sum(p.numel() for p in parameters)
    )


def test_freezing_a_stem_with_identical_channels_is_refused() -> None:
    stem = build().blocks[0].name
    stage = replace(adapt_stage(), frozen=stem)
    with pytest.raises(ConfigError, match=r"t1 and t2.*identical.*--map"):
        adapted(stage, t1="t1ce", t2="t1ce")
    assert adapted(stage).frozen  # each from its own nearest contrast: taken at its word


def test_swapping_contrasts_changes_the_output_right_after_transfer() -> None:
    network = adapted(adapt_stage()).network
    network.module.eval()
    batch = torch.randn(1, 2, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        straight, swapped = network.module(batch), network.module(batch.flip(1))
    assert (straight - swapped).abs().max() > 0.01 * straight.abs().max()


def test_same_contrasts_transfer_to_the_same_function() -> None:
    source = build(seed=0).module.eval()
    prepared = adapted(replace(adapt_stage(), domain=parse_domain("flair,t1ce")))
    batch = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        expected, got = source(batch), prepared.network.module.eval()(batch)
    torch.testing.assert_close(got, expected)


def test_reordered_contrasts_are_matched_by_name() -> None:
    source = build(seed=0).module.eval()
    prepared = adapted(replace(adapt_stage(), domain=parse_domain("t1ce,flair")))
    batch = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        expected, got = source(batch), prepared.network.module.eval()(batch.flip(1))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["unet", "basic-unet", "segresnet"])
def test_frozen_blocks_are_bitwise_unchanged_and_the_others_learn(name: str) -> None:
    weights = weights_of(build(name, seed=0), ("flair", "t1ce"))
    stage = replace(adapt_stage(), frozen="2")
    prepared = prepare_network(build(name, seed=1), stage, weights, REGIONS, mapping={})
    network, owners = prepared.network, partition(prepared.network)
    before = {key: value.detach().clone() for key, value in tensors(network).items()}
    trained = [p for p in network.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        train_mode(network, prepared.frozen)
        optimizer.zero_grad()
        network.module(torch.randn(2, 2, 32, 32, 32)).square().mean().backward()
        optimizer.step()
    changed = {
        owners[key]
        for key, value in tensors(network).items()
        if not torch.equal(value, before[key])
    }
    assert not changed & {owners[key] for key in prepared.frozen}
    assert network.blocks[0].name in changed and network.blocks[-1].name in changed


def test_fine_tuning_carries_the_same_weights_over() -> None:
    stages = fine_tune(REQUEST)
    assert adapted(stages[1]).receipt.transferred == adapted(adapt_stage()).receipt.transferred == 1
