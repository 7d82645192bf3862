"""MONAI's residual networks for classes, under the block protocol.

Tensors are called as in torchvision's checkpoints, and in 2-D have their shapes.
"""

from __future__ import annotations

from monai.networks import nets

from medtl.assemble import Plan, network_builder
from medtl.networks import Block

_BLOCKS = (
    Block("stem", "stem", ("conv1.*", "bn1.*")),
    *(Block(f"encoder{n}", "encoder", (f"layer{n}.*",)) for n in range(1, 5)),
    Block("head", "head", ("fc.*",)),
)


@network_builder("resnet18", width=64, dense=False)
def resnet18(spatial_dims: int, width: int) -> Plan:
    """ResNet-18 (He et al. 2016), width * (1, 2, 4, 8); one linear layer as head."""
    return _plan("basic", (2, 2, 2, 2), spatial_dims, width)


@network_builder("resnet34", width=64, dense=False)
def resnet34(spatial_dims: int, width: int) -> Plan:
    """ResNet-34 (He et al. 2016), width * (1, 2, 4, 8); one linear layer as head."""
    return _plan("basic", (3, 4, 6, 3), spatial_dims, width)


@network_builder("resnet50", width=64, dense=False)
def resnet50(spatial_dims: int, width: int) -> Plan:
    """ResNet-50 (He et al. 2016) with the stride in the 3x3 convolutions, as torchvision's."""
    return _plan("bottleneck", (3, 4, 6, 3), spatial_dims, width)


def _plan(block: str, layers: tuple[int, ...], spatial_dims: int, width: int) -> Plan:
    return (
        lambda channels, outputs: nets.ResNet(
            block,
            list(layers),
            [width * factor for factor in (1, 2, 4, 8)],
            spatial_dims=spatial_dims,
            n_input_channels=channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            num_classes=outputs,
            bias_downsample=False,
        ),
        _BLOCKS,
    )
