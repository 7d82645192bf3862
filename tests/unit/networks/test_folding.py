"""Rewritten convolutions against torch's, in double precision.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medtl.networks.cpu.channels_last import ChannelsLast, fits_folded, folded, shuffled

SIZE = (5, 6, 8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 3), (2, 4), (4, 1)])
def test_folded_is_the_convolution(channels: int, outputs: int, bias: bool) -> None:
    layer = nn.Conv3d(channels, outputs, 3, padding=1, bias=bias).double()
    image_BCIJK = torch.randn(2, channels, *SIZE, dtype=torch.double)
    found = folded(image_BCIJK, layer.weight, layer.bias)
    torch.testing.assert_close(found, layer(image_BCIJK))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (7, 3), (16, 4)])
def test_shuffled_is_the_transposed_convolution(channels: int, outputs: int, bias: bool) -> None:
    layer = nn.ConvTranspose3d(
        channels, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias
    ).double()
    image_BCIJK = torch.randn(2, channels, *SIZE, dtype=torch.double)
    found = shuffled(image_BCIJK, layer.weight, layer.bias)
    torch.testing.assert_close(found, layer(image_BCIJK))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(3, 3, 3, padding=1, dilation=1, stride=2),
        nn.Conv3d(3, 3, 3),
        nn.Conv3d(3, 3, 3, padding=2, dilation=2),
        nn.Conv3d(3, 3, 3, padding=1, groups=3),
        nn.Conv3d(3, 3, 3, padding="same"),
        nn.Conv3d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv3d(3, 3, 1, padding=1),
        nn.Conv3d(3, 5, 3, padding=1),
        nn.ConvTranspose3d(3, 3, 2, stride=2),
        nn.ConvTranspose3d(3, 3, 3, stride=2, padding=1),
        nn.ConvTranspose3d(3, 3, 3, stride=2, padding=1, output_padding=1, groups=3),
    ],
    ids=repr,
)
def test_other_convolutions_stay_as_they_are(layer: nn.Conv3d) -> None:
    image_BCIJK = torch.randn(1, 3, *SIZE)
    with torch.inference_mode(), ChannelsLast():
        found = layer(image_BCIJK)
    torch.testing.assert_close(found, layer(image_BCIJK))


@torch.inference_mode()
@pytest.mark.parametrize("width", [4, 5])
def test_the_end_of_a_u_net_gives_the_same(width: int) -> None:
    layers = nn.Sequential(
        nn.ConvTranspose3d(16, 3, 3, stride=2, padding=1, output_padding=1),
        nn.Conv3d(3, 3, 3, padding=1),
    )
    image_BCIJK = torch.randn(1, 16, 4, 4, width)
    with ChannelsLast():
        found = layers(image_BCIJK)
    torch.testing.assert_close(found, layers(image_BCIJK))


def test_only_rows_of_whole_folds_are_folded() -> None:
    weight = torch.zeros(3, 3, 3, 3, 3)
    settings = ((1, 1, 1), (1, 1, 1), (1, 1, 1), 1)
    assert fits_folded(torch.zeros(1, 3, 4, 4, 8), weight, *settings)
    assert not fits_folded(torch.zeros(1, 3, 4, 4, 10), weight, *settings)
