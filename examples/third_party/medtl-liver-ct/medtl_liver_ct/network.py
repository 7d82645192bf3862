"""The network coarse-unet: it computes at half resolution and below, for organs that are large.

Axes: B batch, C channel, L region, I J K voxels (no K in 2-D).
"""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medtl.assemble import Plan, network_builder
from medtl.networks import Block

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

    A transposed convolution brings the logits to the image's grid. Batch norm and PReLU: Hounsfield
    units mean the same in every patch, which instance norm would hide. Convolutions have no bias,
    which the norm would cancel.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        one, two, four = width, 2 * width, 4 * width
        self.stem = Convolution(dims, in_channels, one, strides=2, norm="batch", bias=False)
        self.encoder1 = ResidualUnit(dims, one, two, strides=2, norm="batch", bias=False)
        self.bottleneck = ResidualUnit(dims, two, four, strides=2, norm="batch", bias=False)
        self.decoder1 = ResidualUnit(dims, four + two, two, norm="batch", bias=False)
        self.decoder2 = ResidualUnit(dims, two + one, one, norm="batch", bias=False)
        self.head = Conv[Conv.CONVTRANS, dims](one, out_channels, kernel_size=2, stride=2)

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        """Images -> logits_BLIJK, one map per region, as large as they are."""
        half = self.stem(batch_BCIJK)
        quarter = self.encoder1(half)
        eighth = self.bottleneck(quarter)
        quarter = self.decoder1(torch.cat([quarter, _doubled(eighth)], dim=1))
        half = self.decoder2(torch.cat([half, _doubled(quarter)], dim=1))
        logits_BLIJK: Tensor = self.head(half)
        return logits_BLIJK


def _doubled(maps_BCIJK: Tensor) -> Tensor:
    mode = {4: "bilinear", 5: "trilinear"}[maps_BCIJK.ndim]
    return functional.interpolate(maps_BCIJK, scale_factor=2, mode=mode, align_corners=False)


@network_builder("coarse-unet", width=16, patch_multiple=8)
def coarse_unet(spatial_dims: int, width: int) -> Plan:
    """CoarseUNet; width is the channels of the first level, 16.

    A fraction of the work of a U-Net that starts at full resolution. Edges of a patch must be
    multiples of 8, as it halves them three times.
    """
    return (
        lambda channels, outputs: CoarseUNet(spatial_dims, channels, outputs, width),
        BLOCKS,
    )
