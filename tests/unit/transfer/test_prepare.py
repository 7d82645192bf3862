"""A network made ready for a stage: what is loaded, what is frozen, what the receipt says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from checkpoints import weights_of
from torch import nn

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError, UnknownNameError, WeightsError
from medtl.networks.blocks import Network, partition, tensors
from medtl.plugins.catalog import load_catalog
from medtl.transfer.prepare import prepare_network
from medtl.transfer.strategies.base import Stage
from medtl.transfer.weights import Weights

REGIONS = ("WT", "TC", "ET")
STAGE = Stage("adapt", parse_domain("flair,t1ce"), steps=1)


def unet(seed: int, width: int = 4) -> Network:
    torch.manual_seed(seed)
    return load_catalog().networks["unet"].load()(in_channels=2, out_channels=3, width=width)


def weights(network: Network) -> Weights:
    values = {name: tensor.detach().clone() for name, tensor in tensors(network).items()}
    return weights_of(values, ("flair", "t1ce"), REGIONS)


def test_no_weights_leave_the_network_as_it_is() -> None:
    network = unet(1)
    before = weights(network).tensors
    prepared = prepare_network(network, STAGE, None, REGIONS, mapping={})
    assert all(torch.equal(t, before[name]) for name, t in tensors(network).items())
    assert prepared.receipt.shares == {"loaded": 0.0, "adapted": 0.0, "random": 1.0}
    assert prepared.trainable_share() == 1 and prepared.frozen == ()


def test_receipt_of_random_weights_counts_every_parameter_once() -> None:
    network = unet(1)
    receipt = prepare_network(network, STAGE, None, REGIONS, mapping={}).receipt
    counted = sum(row.numel for row in receipt.tensors if row.parameter)
    assert counted == sum(p.numel() for p in network.module.parameters())


def test_same_network_takes_every_tensor() -> None:
    source, network = unet(0), unet(1)
    prepared = prepare_network(network, STAGE, weights(source), REGIONS, mapping={})
    assert prepared.receipt.transferred == 1
    expected = tensors(source)
    assert all(torch.equal(t, expected[name]) for name, t in tensors(network).items())


def test_reinitialised_head_is_random_and_all_but_the_head_is_frozen() -> None:
    source, network = unet(0), unet(1)
    own = weights(network).tensors
    head = network.blocks[-1].name
    stage = replace(STAGE, reinit=(head,), frozen=f"all-but:{head}")
    prepared = prepare_network(network, stage, weights(source), REGIONS, mapping={})
    owners, carried = partition(network), tensors(source)
    for name, tensor in tensors(network).items():
        origin = own if owners[name] == head else carried
        assert torch.equal(tensor, origin[name])
        if isinstance(tensor, nn.Parameter):
            assert tensor.requires_grad == (owners[name] == head)
    assert {owners[name] for name in prepared.frozen} == {
        block.name for block in network.blocks
    } - {head}
    assert 0 < prepared.trainable_share() < 0.5


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"source\.safetensors"):
        prepare_network(unet(1, width=8), STAGE, weights(unet(0)), REGIONS, mapping={})


def test_too_many_blocks_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="99"):
        prepare_network(unet(1), replace(STAGE, frozen="99"), None, REGIONS, mapping={})
    with pytest.raises(UnknownNameError, match="stem"):
        prepare_network(unet(1), replace(STAGE, frozen="stemm"), None, REGIONS, mapping={})


@pytest.mark.parametrize(
    ("name", "options", "new"),
    [
        ("vgg11-bn", {"head": "gap-128", "keep_blocks": 4}, True),
        ("vgg11-bn", {"head": "gap-128"}, False),
        ("unet3d", {"keep_blocks": 4}, False),
    ],
)
def test_head_of_a_cut_classifier_is_new_even_where_the_old_one_fits(
    name: str, options: dict[str, object], new: bool
) -> None:
    build = load_catalog().networks[name].load()
    numbers = {"in_channels": 2, "out_channels": 3, "width": 4}
    whole = build(**numbers, **{key: options[key] for key in options if key != "keep_blocks"})
    cut = build(**numbers, **options)
    source = weights(whole)
    metadata = {**source.metadata, "network": {"name": name, "options": dict(whole.options)}}
    source = replace(source, metadata=metadata)
    owners = partition(cut)
    receipt = prepare_network(cut, STAGE, source, REGIONS, mapping={}).receipt
    shapes = {name: tensor.shape for name, tensor in tensors(whole).items()}
    for row in receipt.tensors:
        if owners.get(row.name) == "head":
            assert shapes[row.name] == row.shape
            assert (row.status == "random") == new
    own = replace(weights(cut), metadata={"network": {"options": dict(cut.options)}})
    assert prepare_network(cut, STAGE, own, REGIONS, mapping={}).receipt.transferred == 1


def without(part: str) -> tuple[Weights, list[str]]:
    """The weights of a network without the tensors that contain ``part``, and their names."""
    whole = weights(unet(0))
    lost = [name for name in whole.tensors if part in name]
    assert lost
    return replace(whole, tensors={k: v for k, v in whole.tensors.items() if k not in lost}), lost


def test_layers_that_the_file_lacks_are_not_frozen() -> None:
    partly, lost = without("model.0.residual")
    block = partition(unet(1))[lost[0]]
    with pytest.raises(ConfigError) as caught:
        prepare_network(
            unet(1), replace(STAGE, frozen=block), partly, REGIONS, mapping={}, allow_partial=True
        )
    message = str(caught.value)
    assert all(name in message for name in lost) and f"leave {block} out of --freeze" in message
    others = [b.name for b in unet(1).blocks if b.name != block]
    for frozen in ("none", ",".join(others[:1])):  # what the message advises
        stage = replace(STAGE, frozen=frozen)
        ready = prepare_network(unet(1), stage, partly, REGIONS, mapping={}, allow_partial=True)
        assert not set(lost) & set(ready.frozen)


def test_random_layers_may_be_frozen_where_that_was_asked_for() -> None:
    head = unet(1).blocks[-1].name
    stage = replace(STAGE, frozen=head, reinit=(head,))
    assert prepare_network(unet(1), stage, weights(unet(0)), REGIONS, mapping={}).frozen
    stage = replace(STAGE, frozen="all")
    assert prepare_network(unet(1), stage, None, REGIONS, mapping={}).frozen
