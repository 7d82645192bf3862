"""A 2-D U-Net of 37 layers (after Ronneberger et al. 2015), each layer a module of its own.

Axes: B batch, C channel, I J pixel axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.builder import Architecture, network_builder
from medtl_unet3d.layout import ladder
from medtl_unet3d.unet3d import DOWN, LEVELS, UP, Levels, start_for_relu


class ConvReLU(nn.Conv2d):
    """Convolution that keeps the size, then ReLU: one layer.

    An even kernel pads one pixel more at the end than at the start, as Keras' "same" does.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel)
        before, after = (kernel - 1) // 2, kernel // 2
        self.margin = (before, after, before, after)

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        return functional.relu(super().forward(functional.pad(batch_BCIJ, self.margin)))


class Concat(nn.Module):
    """Joins along the channels; a module, so that it counts as a layer."""

    def forward(self, first_BCIJ: Tensor, second_BCIJ: Tensor) -> Tensor:
        return torch.cat([first_BCIJ, second_BCIJ], dim=1)


class Level(nn.Module):
    """Two convolutions; the input of the network, a pooling or a dropout may stand around them."""

    def __init__(
        self, in_channels: int, out_channels: int, before: nn.Module, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.before = before
        self.conv1 = ConvReLU(in_channels, out_channels, 3)
        self.conv2 = ConvReLU(out_channels, out_channels, 3)
        self.after = after

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        features_BCIJ = self.conv2(self.conv1(self.before(batch_BCIJ)))
        return features_BCIJ if self.after is None else self.after(features_BCIJ)


class UpLevel(nn.Module):
    """Nearest-neighbour doubling, 2x2 convolution, the skip beside it, two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.upconv = ConvReLU(in_channels, out_channels, 2)
        self.concat = Concat()
        self.conv1 = ConvReLU(2 * out_channels, out_channels, 3)
        self.conv2 = ConvReLU(out_channels, out_channels, 3)

    def forward(self, deeper_BCIJ: Tensor, skip_BCIJ: Tensor) -> Tensor:
        joined_BCIJ = self.concat(skip_BCIJ, self.upconv(self.up(deeper_BCIJ)))
        return self.conv2(self.conv1(joined_BCIJ))


class UNet2D(Levels):
    """Levels of 32-64-128-256-512 channels, dropout 0.2 at the bottom: 37 layers.

    Each layer is a module without children, so ``layers:25`` counts as Keras does: input, pooling,
    dropout and concatenation are layers, too.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(LEVELS)]
        self.stem = Level(in_channels, channels[0], before=nn.Identity())
        for name, (above, below) in zip(DOWN[1:], pairwise(channels), strict=True):
            after = nn.Dropout(0.2) if name == "bottleneck" else None
            self.add_module(name, Level(above, below, nn.MaxPool2d(2), after))
        for name, (below, above) in zip(UP, pairwise(reversed(channels)), strict=True):
            self.add_module(name, UpLevel(below, above))
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        self.apply(start_for_relu)


@network_builder("unet2d-37", width=32, patch_multiple=2 ** (LEVELS - 1), dimensions=(2,))
def unet2d_37(spatial_dims: int, width: int) -> Architecture:
    """A 2-D U-Net on slices; width 32, two contrasts and four classes: 7,759,908 parameters."""
    return lambda channels, outputs: UNet2D(channels, outputs, width), ladder(DOWN, UP, "head")
