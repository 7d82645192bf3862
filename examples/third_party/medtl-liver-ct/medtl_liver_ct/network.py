"""The network coarse-unet: it computes at half resolution and below, for organs that are large.

Axes: B batch, C channel, L region, I J K voxels (no K in 2-D).
"""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medtl.networks.blocks import Block
from medtl.networks.builder import Architecture, network_builder

#: Every tensor belongs to one block, in the order in which they run: freezing, transfer and rates
#: go by them. The patterns are of tensor names, as in a shell.
BLOCKS = (
    Block("stem", "stem", ("stem.*",)),
    Block("encoder1", "encoder", ("encoder1.*",)),
    Block("bottleneck", "bottleneck", ("bottleneck.*",)),
    Block("decoder1", "decoder", ("decoder1.*",)),
    Block("decoder2", "decoder", ("decoder2.*",)),
    Block("head", "head", ("head.*",)),
)


class CoarseUNet(nn.Module):
    """Residual units of width * (1, 2, 4) channels at 1/2, 1/4 and 1/8 of the resolution, skips.

    Batch norm and PReLU: Hounsfield units mean the same in every patch, which instance norm would
    hide. The head brings the logits to the image's grid and smooths them there, where they are few.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        one, two, four = width, 2 * width, 4 * width
        self.stem = _unit(dims, in_channels, one, strides=2)
        self.encoder1 = _unit(dims, one, two, strides=2)
        self.bottleneck = _unit(dims, two, four, strides=2)
        self.decoder1 = Decoder(dims, four, two)
        self.decoder2 = Decoder(dims, two, one)
        self.head = nn.Sequential(
            _doubling(dims, one, out_channels),
            Conv[Conv.CONV, dims](out_channels, out_channels, kernel_size=3, padding=1),
        )

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        """Images -> logits_BLIJK, one map per region, as large as they are."""
        half = self.stem(batch_BCIJK)
        quarter = self.encoder1(half)
        eighth = self.bottleneck(quarter)
        quarter = self.decoder1(eighth, quarter)
        half = self.decoder2(quarter, half)
        logits_BLIJK: Tensor = self.head(half)
        return logits_BLIJK


class Decoder(nn.Module):
    """Doubles the resolution, and puts the skip beside it, which has as many channels."""

    def __init__(self, dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = _doubling(dims, in_channels, out_channels)
        self.unit = _unit(dims, 2 * out_channels, out_channels)

    def forward(self, deeper_BCIJK: Tensor, skip_BCIJK: Tensor) -> Tensor:
        joined_BCIJK = torch.cat([skip_BCIJK, self.up(deeper_BCIJK)], dim=1)
        decoded_BCIJK: Tensor = self.unit(joined_BCIJK)
        return decoded_BCIJK


def _unit(dims: int, in_channels: int, out_channels: int, strides: int = 1) -> nn.Module:
    """Two convolutions and a shortcut around them."""
    return ResidualUnit(dims, in_channels, out_channels, strides=strides, norm="batch", bias=False)


def _doubling(dims: int, in_channels: int, out_channels: int) -> nn.Module:
    return Convolution(
        dims, in_channels, out_channels, strides=2, is_transposed=True, norm="batch", bias=False
    )


@network_builder("coarse-unet", width=16, patch_multiple=8)
def coarse_unet(spatial_dims: int, width: int) -> Architecture:
    """CoarseUNet; width is the channels of the first level, 16.

    A fraction of the work of a U-Net that starts at full resolution. Edges of a patch must be
    multiples of 8, as it halves them three times.
    """
    return (
        lambda channels, outputs: CoarseUNet(spatial_dims, channels, outputs, width),
        BLOCKS,
    )
