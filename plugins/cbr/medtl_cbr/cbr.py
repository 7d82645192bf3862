"""CBR networks (Raghu et al. 2019, arXiv 1902.07208) under the block protocol.

Axes: B batch, C channel, I J K voxel axes, L class.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medtl.networks.blocks import Block, NetworkBuilder
from medtl.networks.builder import Architecture, network_builder
from medtl.networks.layers import BatchNorm2dReLU, BatchNorm3dReLU, start_as_published
from medtl.networks.options import cut_blocks

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM_RELU = {2: BatchNorm2dReLU, 3: BatchNorm3dReLU}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class CBR(nn.Module):
    """Blocks of convolution, batch norm, ReLU, each pooled (3x3, stride 2); average; linear layer.

    The convolutions have no bias, which the norm would cancel.
    """

    def __init__(
        self, dims: int, in_channels: int, outputs: int, kernel: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.names = _names(len(channels))
        for name, out_channels in zip(self.names, channels, strict=True):
            convolution = _CONVOLUTION[dims](
                in_channels, out_channels, kernel, padding=kernel // 2, bias=False
            )
            block = nn.Sequential()
            block.add_module("conv", convolution)
            block.add_module("norm", _NORM_RELU[dims](out_channels))
            self.add_module(name, block)
            in_channels = out_channels
        self.pool = _MAX_POOL[dims](3, stride=2, padding=1)
        self.average = _AVERAGE_POOL[dims](1)
        self.head = nn.Linear(in_channels, outputs)
        self.apply(start_as_published)

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        for name in self.names:
            batch_BCIJ = self.pool(self.get_submodule(name)(batch_BCIJ))
        return self.head(self.average(batch_BCIJ).flatten(1))


def _names(count: int) -> tuple[str, ...]:
    return ("stem", *(f"encoder{n}" for n in range(1, count)))


def _builder(name: str, kernel: int, width: int, levels: int) -> NetworkBuilder:
    def plan(
        spatial_dims: int,
        width: int,
        *,
        keep_blocks: int | None = None,
        slim_from: int | None = None,
    ) -> Architecture:
        names = _names(levels)
        cut = cut_blocks(name, names, keep_blocks, slim_from)
        channels = cut.channels([width * 2**n for n in range(levels)])
        blocks = [
            Block(block, "stem" if block == "stem" else "encoder", (f"{block}.*",))
            for block in names[: cut.kept]
        ]
        return (
            lambda inputs, outputs: CBR(spatial_dims, inputs, outputs, kernel, channels),
            [*blocks, Block("head", "head", ("head.*",))],
        )

    plan.__doc__ = f"{name}: {levels} blocks of {kernel}x{kernel}, width {width}, doubling."
    return network_builder(name, width=width, dense=False)(plan)


cbr_larget = _builder("cbr-larget", kernel=7, width=32, levels=5)
cbr_largew = _builder("cbr-largew", kernel=7, width=64, levels=4)
cbr_small = _builder("cbr-small", kernel=7, width=32, levels=4)
cbr_tiny = _builder("cbr-tiny", kernel=5, width=64, levels=4)
cbr_tiny_table = _builder("cbr-tiny-table", kernel=5, width=32, levels=4)
