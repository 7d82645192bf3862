"""A 3-D U-Net (Cicek et al. 2016) without normalisation.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.builder import Architecture, network_builder
from medtl.networks.options import cut_blocks
from medtl_unet3d.layout import ladder

#: The parts of a U-Net in order of execution; a shallower one lacks the middle of it.
DOWN = ("stem", "encoder1", "encoder2", "encoder3", "bottleneck")
UP = ("decoder1", "decoder2", "decoder3", "decoder4")
LEVELS = len(DOWN)


class Levels(nn.Module):
    """How a U-Net runs, in 2-D and 3-D; a child makes the parts by the names above, and the head.

    ``levels``: how many of the parts that lead down it has.
    """

    levels = LEVELS

    def forward(self, batch: Tensor) -> Tensor:
        skips = []
        for name in DOWN[: self.levels]:
            batch = self.get_submodule(name)(batch)
            skips.append(batch)
        for name, skip in zip(ups(self.levels), reversed(skips[:-1]), strict=True):
            batch = self.get_submodule(name)(batch, skip)
        return self.head(batch)


def ups(levels: int) -> tuple[str, ...]:
    """The parts that lead up again, for a number of levels."""
    return UP[LEVELS - levels :]


class UNet3D(Levels):
    """Two 3x3x3 convolutions + ReLU per level, 2x2x2 max pooling and up-convolutions, skips.

    The levels hold width * (1, 2, 4, 8, 16) channels. There is no normalisation, so the weights
    start out as He et al. 2015 propose for ReLU, which keeps the scale through the levels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, levels: int = LEVELS
    ) -> None:
        super().__init__()
        self.levels = levels
        channels = [width * 2**level for level in range(levels)]
        self.stem = _two_convolutions(in_channels, channels[0])
        for name, (above, below) in zip(DOWN[1:levels], pairwise(channels), strict=True):
            self.add_module(name, _down(above, below))
        for name, (below, above) in zip(ups(levels), pairwise(reversed(channels)), strict=True):
            self.add_module(name, Up(below, above))
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
def unet3d(spatial_dims: int, width: int, *, keep_blocks: int | None = None) -> Architecture:
    """A 3-D U-Net; ``width`` is the number of channels of the first level, 32 by default.

    ``keep_blocks`` levels lead down, the last becomes the bottleneck; the parts that lead
    up keep their names, so that the weights of a deeper network load.
    """
    levels = cut_blocks("unet3d", DOWN, keep_blocks).kept
    if levels < 2:
        raise ConfigError("unet3d: keep_blocks must be 2 or more, as one level has no bottleneck")
    return (
        lambda channels, outputs: UNet3D(channels, outputs, width, levels),
        ladder(DOWN[:levels], ups(levels), "head"),
    )
