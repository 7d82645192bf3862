"""The true 3-D U-Net that study S1's text asks for.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtl.assemble import Plan, network_builder
from medtl_unet3d.layout import attributes

LEVELS = 5


class FiveLevels(nn.Module):
    """How a U-Net of five levels runs, in 2-D and 3-D; a child makes the levels by these names."""

    def forward(self, batch: Tensor) -> Tensor:
        skip1 = self.stem(batch)
        skip2 = self.encoder1(skip1)
        skip3 = self.encoder2(skip2)
        skip4 = self.encoder3(skip3)
        deepest = self.bottleneck(skip4)
        up = self.decoder1(deepest, skip4)
        up = self.decoder2(up, skip3)
        up = self.decoder3(up, skip2)
        up = self.decoder4(up, skip1)
        return self.head(up)


class UNet3D(FiveLevels):
    """Two 3x3x3 convolutions + ReLU per level, 2x2x2 max pooling and up-convolutions, skips.

    The levels hold width * (1, 2, 4, 8, 16) channels. There is no normalisation, so the weights
    start out as He et al. 2015 propose for ReLU, which keeps the scale through the levels.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(LEVELS)]
        self.stem = _two_convolutions(in_channels, channels[0])
        self.encoder1 = _down(channels[0], channels[1])
        self.encoder2 = _down(channels[1], channels[2])
        self.encoder3 = _down(channels[2], channels[3])
        self.bottleneck = _down(channels[3], channels[4])
        self.decoder1 = Up(channels[4], channels[3])
        self.decoder2 = Up(channels[3], channels[2])
        self.decoder3 = Up(channels[2], channels[1])
        self.decoder4 = Up(channels[1], channels[0])
        self.head = nn.Conv3d(channels[0], out_channels, kernel_size=1)
        self.apply(start_for_relu)


class Up(nn.Module):
    """2x2x2 up-convolution, the skip beside it, two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2)
        self.convolutions = _two_convolutions(2 * out_channels, out_channels)

    def forward(self, deeper_BCIJK: Tensor, skip_BCIJK: Tensor) -> Tensor:
        return self.convolutions(torch.cat([skip_BCIJK, self.up(deeper_BCIJK)], dim=1))


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool3d(2), *_two_convolutions(in_channels, out_channels))


def start_for_relu(module: nn.Module) -> None:
    """He-normal weights and zero biases, for convolutions followed by ReLU."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@network_builder("unet3d", width=32, patch_multiple=2 ** (LEVELS - 1), dimensions=(3,))
def unet3d(spatial_dims: int, width: int) -> Plan:
    """S1's 3-D U-Net; width is the channels of the first level, 32 as in S1."""
    return (
        lambda channels, outputs: UNet3D(channels, outputs, width),
        attributes(LEVELS),
    )
