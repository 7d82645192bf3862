"""The residual classifiers keep torchvision's names and sizes, and medtl's promises on blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medtl.errors import ConfigError, WeightsError
from medtl.networks.blocks import (
    Network,
    execution_layers,
    freeze,
    partition,
    select_blocks,
    tensors,
    train_mode,
)
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights
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


@pytest.mark.parametrize(
    ("name", "features", "total"), [("resnet18", 512, 11_571_010), ("resnet50", 2048, 24_688_962)]
)
def test_s2_s_head_has_512_and_256_hidden_numbers(name: str, features: int, total: int) -> None:
    with torch.device("meta"):
        network = build(name, in_channels=3, out_channels=2, width=None, head="hidden-512-256")
    sizes = [tuple(m.weight.shape) for m in network.module.fc if isinstance(m, torch.nn.Linear)]
    assert sizes == [(512, features), (256, 512), (2, 256)]
    assert [m.p for m in network.module.fc if isinstance(m, torch.nn.Dropout)] == [0.3, 0.3]
    assert sum(p.numel() for p in network.module.parameters()) == total
    freeze(network, select_blocks(network, "all-but:head"))
    trained = sum(p.numel() for p in network.module.parameters() if p.requires_grad)
    assert trained == sum((inputs + 1) * outputs for outputs, inputs in sizes)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_top_blocks_are_dropped(name: str) -> None:
    whole, cut = build(name), build(name, keep_blocks=3)
    assert [block.name for block in cut.blocks] == ["stem", "encoder1", "encoder2", "head"]
    kept = {key: tuple(t.shape) for key, t in tensors(cut).items() if not key.startswith("fc.")}
    assert kept.items() < {key: tuple(t.shape) for key, t in tensors(whole).items()}.items()
    assert cut.module(torch.randn(2, 2, 32, 32)).shape == (2, 3)
    assert build(name, keep_blocks=1).module(torch.randn(2, 2, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("slim_from", "planes"),
    [(1, (4, 4, 8, 16, 32)), (2, (16, 4, 8, 16, 32)), (4, (16, 16, 32, 16, 32))],
)
def test_slim_blocks_have_a_quarter_of_the_width(slim_from: int, planes: tuple[int, ...]) -> None:
    network = build("resnet18", width=16, slim_from=slim_from)
    state = tensors(network)
    found = [state["conv1.weight"].shape[0]]
    found += [state[f"layer{n}.0.conv1.weight"].shape[0] for n in range(1, 5)]
    assert tuple(found) == planes
    assert network.module(torch.randn(2, 2, 32, 32)).shape == (2, 3)


def test_deeper_network_s_weights_are_refused_and_explained() -> None:
    source, target = build("resnet34"), build("resnet18")
    state = {key: tensor.detach() for key, tensor in tensors(source).items()}
    weights = Weights(Path("w.pth"), state, {"modalities": ["t1", "t2"]}, "state dict")
    names = dict(modalities=("t1", "t2"), regions=("a", "b", "c"))
    with pytest.raises(WeightsError, match=r"no place there .*torchvision's resnet34;"):
        transfer(target, weights, **names)
    assert transfer(target, weights, **names, allow_partial=True).transferred == 1
