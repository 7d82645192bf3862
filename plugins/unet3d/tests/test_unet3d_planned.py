"""The planned U-Nets against published figures and hand-computed cases."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, names_of
from medtl_unet3d.plugin import medtl_networks

BUILDERS = {component.name: component for component in medtl_networks()}

#: nnU-Net's plan for patches of 128x128x128: six levels.
STRIDES = [1, 2, 2, 2, 2, 2]

#: Hippocampus: patches of 40x56x40, four levels.
SMALL = [1, 2, 2, 2]


def build(name: str, **options: object) -> Network:
    settings = {"in_channels": 4, "out_channels": 3, **options}
    network: Network = BUILDERS[name].load()(**settings)
    return network


def parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.module.parameters())


def convolutions(inputs: int, outputs: int, count: int, kernel: int = 27) -> int:
    """Parameters of convolutions with bias, and of their norms."""
    first = kernel * inputs * outputs + 3 * outputs
    return first + (count - 1) * (kernel * outputs * outputs + 3 * outputs)


def test_plain_unet_has_the_parameters_of_the_formula() -> None:
    """Two convolutions per level, transposed ones of 2x2x2, a head per level of the decoder."""
    channels = [32, 64, 128, 256, 320, 320]
    down = sum(
        convolutions(before, own, 2) for before, own in zip([4, *channels], channels, strict=False)
    )
    up = sum(
        8 * below * own + own + convolutions(2 * own, own, 2) + 3 * own + 3
        for own, below in pairwise(channels)
    )
    assert parameters(build("plain-unet", strides=STRIDES)) == down + up


@pytest.mark.parametrize(
    ("name", "counted"), [("plain-unet", 31_195_594), ("resenc-unet", 102_349_770)]
)
def test_parameters_are_as_many_as_nnunets(name: str, counted: int) -> None:
    """Of PlainConvUNet and ResidualEncoderUNet (ResEnc L) in dynamic-network-architectures 0.4.4,
    for one channel and two outputs."""
    network = build(name, in_channels=1, out_channels=2, strides=STRIDES)
    assert parameters(network) == counted


def test_names_are_those_of_nnunet() -> None:
    """As its PlainConvUNet and ResidualEncoderUNet write them, each tensor once."""
    plain = set(names_of(build("plain-unet", strides=SMALL).module))
    assert {
        "encoder.stages.0.0.convs.0.conv.weight",
        "encoder.stages.3.0.convs.1.norm.bias",
        "decoder.stages.2.convs.1.conv.bias",
        "decoder.transpconvs.0.weight",
        "decoder.seg_layers.2.bias",
    } <= plain
    residual = set(names_of(build("resenc-unet", strides=SMALL).module))
    assert {
        "encoder.stem.convs.0.conv.weight",
        "encoder.stages.1.blocks.0.conv1.conv.bias",
        "encoder.stages.1.blocks.0.skip.1.conv.weight",  # after the average of its stride
        "encoder.stages.1.blocks.2.conv2.norm.weight",
        "decoder.stages.0.convs.0.norm.weight",
    } <= residual
    assert "encoder.stages.1.blocks.0.skip.1.conv.bias" not in residual
    assert "encoder.stages.0.blocks.0.skip.0.conv.weight" not in residual  # nothing to project


@pytest.mark.parametrize("name", ["plain-unet", "resenc-unet"])
def test_levels_have_their_own_strides_and_kernels(name: str) -> None:
    strides, kernels = [[1, 1, 1], [2, 2, 1], [2, 2, 2]], [[3, 3, 1], [3, 3, 3], [3, 3, 3]]
    network = build(name, strides=strides, kernels=kernels, width=8)
    assert network.multiples == (4, 4, 2)
    network.module.train()
    batch = torch.zeros(2, 4, 16, 12, 6)
    assert [tuple(t.shape) for t in network.module(batch)] == [
        (2, 3, 16, 12, 6),
        (2, 3, 8, 6, 6),
    ]
    network.module.eval()
    assert network.module(batch).shape == (2, 3, 16, 12, 6)
    first = next(m for m in network.module.modules() if isinstance(m, nn.Conv3d))
    assert first.kernel_size == (3, 3, 1)
    with pytest.raises(ConfigError, match="multiples of 4, 4, 2, not 16x16x5"):
        build(name, strides=strides, kernels=kernels, patch_size=(16, 16, 5))


def test_a_residual_block_starts_as_its_shortcut() -> None:
    torch.manual_seed(0)
    module = build("resenc-unet", strides=SMALL, width=8).module
    block = module.get_submodule("encoder.stages.0.blocks.0")
    maps = torch.rand(1, 8, 8, 8, 8)
    assert torch.equal(block(maps), maps)


def test_deeper_levels_have_as_many_convolutions_as_the_deepest_given() -> None:
    short = build("plain-unet", strides=SMALL, width=8, blocks=[1, 3], decoder_blocks=[2, 1])
    full = build(
        "plain-unet", strides=SMALL, width=8, blocks=[1, 3, 3, 3], decoder_blocks=[2, 2, 1]
    )
    assert names_of(short.module) == names_of(full.module)
    finest = [name for name in names_of(short.module) if "decoder.stages.2.convs" in name]
    assert len(finest) == 4  # weight and bias of one convolution and its norm


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strides": [2, 2, 2]}, "the first of stride 1"),
        ({"strides": 2}, "strides is a list"),
        ({"strides": [1, [2, 2]]}, "each of 3 axes"),
        ({"strides": [1, 0]}, "from 1 on"),
        ({"strides": [1, 2], "kernels": [3, 2]}, "must be odd"),
        ({"strides": [1, 2], "kernels": [3]}, "kernels has 1 levels, but strides asks for 2"),
        ({"strides": [1, 2], "decoder_blocks": [1, 1]}, "decoder_blocks has 2 levels"),
        ({"strides": [1, 2], "blocks": []}, "blocks has 0 levels"),
        ({"channels": ["32"]}, "channels is a list of numbers"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("plain-unet", **options)
