"""The residual classifiers keep torchvision's names and sizes, and medtl's promises on blocks."""

from __future__ import annotations

import pytest
import torch

from medtl.errors import ConfigError
from medtl.networks import (
    Network,
    execution_layers,
    freeze,
    partition,
    select_blocks,
    tensors,
    train_mode,
)
from medtl_resnet_classifier.plugin import medtl_networks

COMPONENTS = {component.name: component for component in medtl_networks()}
every_network = pytest.mark.parametrize("name", list(COMPONENTS))
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def build(name: str, **changes: object) -> Network:
    torch.manual_seed(0)
    settings = dict(in_channels=2, out_channels=3, spatial_dims=2, width=4) | changes
    return COMPONENTS[name].load()(**settings)


def published_names(blocks: tuple[int, ...], convolutions: int) -> set[str]:
    """The keys of torchvision's checkpoints, from the architecture."""
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{part}" for part in NORM)}
    for level, count in enumerate(blocks, 1):
        for block in range(count):
            place = f"layer{level}.{block}"
            for n in range(1, convolutions + 1):
                names |= {f"{place}.conv{n}.weight", *(f"{place}.bn{n}.{part}" for part in NORM)}
        if level > 1 or convolutions == 3:
            first = f"layer{level}.0.downsample"
            names |= {f"{first}.0.weight", *(f"{first}.1.{part}" for part in NORM)}
    return names


@pytest.mark.parametrize(
    ("name", "parameters", "blocks", "convolutions"),
    [
        ("resnet18", 11_689_512, (2, 2, 2, 2), 2),
        ("resnet34", 21_797_672, (3, 4, 6, 3), 2),
        ("resnet50", 25_557_032, (3, 4, 6, 3), 3),
    ],
)
def test_published_sizes_and_names(
    name: str, parameters: int, blocks: tuple[int, ...], convolutions: int
) -> None:
    network = build(name, in_channels=3, out_channels=1000, width=None)
    assert sum(p.numel() for p in network.module.parameters()) == parameters
    assert set(network.module.state_dict()) == published_names(blocks, convolutions)
    assert network.module.conv1.stride == (2, 2)
    assert network.module.conv1.weight.shape == (64, 3, 7, 7)


@every_network
@pytest.mark.parametrize("dims", [2, 3])
def test_one_logit_per_class_in_2d_and_3d(name: str, dims: int) -> None:
    network = build(name, spatial_dims=dims, patch_size=(40,) * dims)
    network.module.eval()
    logits_BL = network.module(torch.randn(2, 2, *(40,) * dims))
    assert logits_BL.shape == (2, 3) and not network.dense
    assert network.input_tensors == ("conv1.weight",)
    assert network.head_tensors == ("fc.weight", "fc.bias")


@every_network
def test_blocks_run_from_stem_to_head_and_hold_every_tensor(name: str) -> None:
    network = build(name)
    assert [block.name for block in network.blocks] == [
        "stem", "encoder1", "encoder2", "encoder3", "encoder4", "head",
    ]  # fmt: skip
    owners = partition(network)
    assert set(owners) == set(tensors(network))
    order = execution_layers(network)
    assert order[0] == "conv1" and order[-1] == "fc"


@every_network
def test_frozen_blocks_are_bitwise_unchanged_norm_statistics_too(name: str) -> None:
    for count in range(6):
        network = build(name)
        frozen = select_blocks(network, str(count))
        freeze(network, frozen)
        before = {key: tensor.detach().clone() for key, tensor in tensors(network).items()}
        train_mode(network, frozen)
        trainable = [p for p in network.module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trainable, lr=0.01)
        network.module(torch.randn(4, 2, 48, 48)).square().mean().backward()
        optimiser.step()
        moved = {key for key, t in tensors(network).items() if not torch.equal(t, before[key])}
        owners = partition(network)
        assert not moved & set(frozen)
        assert {owners[key] for key in moved} == {b.name for b in network.blocks[count:]}


def test_patch_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ConfigError, match="resnet18 is 2-D; the patch is 8x8x8"):
        build("resnet18", patch_size=(8, 8, 8))
