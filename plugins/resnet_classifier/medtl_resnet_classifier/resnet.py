"""MONAI's residual networks for classification, as networks of named blocks, with two heads.

Tensors have the names of torchvision's checkpoints and, in 2-D, their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks import nets
from torch import nn

from medtl.networks.blocks import Block, NetworkBuilder
from medtl.networks.builder import Architecture, network_builder
from medtl.networks.layers import perceptron, start_as_published
from medtl.networks.options import choose_head, cut_blocks
from medtl_resnet_classifier.plugin import RENAMED

WIDTH = 64
STOCK = "torchvision"
#: head -> hidden layers: numbers at the published width, share dropped
HEADS: dict[str, tuple[tuple[int, float], ...]] = {
    STOCK: (),
    "hidden-512-256": ((512, 0.3), (256, 0.3)),
}
#: Channels of stem and layers in units of the width, and what a bottleneck multiplies them by.
FACTORS = (1, 1, 2, 4, 8)
EXPANSION = {"basic": 1, "bottleneck": 4}
BEFORE_HEAD = ("stem", "encoder1", "encoder2", "encoder3", "encoder4")


class ResNet(nets.ResNet):
    """MONAI's, laid out as torchvision's; ``channels`` of the stem and of the layers that it has.

    ``hidden``: the layers of its head before the last, each (numbers, share dropped).
    """

    def __init__(
        self,
        block: str,
        depths: Sequence[int],
        channels: Sequence[int],
        hidden: Sequence[tuple[int, float]],
        *,
        spatial_dims: int,
        in_channels: int,
        outputs: int,
    ) -> None:
        stem, *planes = channels
        missing = len(depths) - len(planes)
        super().__init__(
            block,
            list(depths),
            [stem, *planes[1:], *[1] * missing][: len(depths)],
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            num_classes=outputs,
            bias_downsample=False,
        )
        if planes and planes[0] != stem:  # MONAI's stem has the width of its first layer
            self._narrow(stem, planes, depths, spatial_dims)
        for number in range(len(planes) + 1, len(depths) + 1):
            setattr(self, f"layer{number}", nn.Identity())
        if missing or hidden or (planes and planes[0] != stem):
            features = planes[-1] * EXPANSION[block] if planes else stem
            self.fc = perceptron(features, hidden, outputs)

    def _narrow(
        self, stem: int, planes: Sequence[int], depths: Sequence[int], spatial_dims: int
    ) -> None:
        block = type(self.layer1[0])
        self.in_planes = stem
        for number, (count, depth) in enumerate(zip(planes, depths, strict=False), 1):
            stride = 1 if number == 1 else 2
            layer = self._make_layer(block, count, depth, spatial_dims, "B", stride)
            setattr(self, f"layer{number}", layer.apply(start_as_published))


def _builder(layers: int, block: str, depths: tuple[int, ...], imagenet: str) -> NetworkBuilder:
    name = f"resnet{layers}"

    def plan(
        spatial_dims: int,
        width: int,
        *,
        head: str = STOCK,
        keep_blocks: int | None = None,
        slim_from: int | None = None,
    ) -> Architecture:
        hidden = [
            (max(1, size * width // WIDTH), dropped)
            for size, dropped in choose_head(name, head, HEADS, RENAMED)
        ]
        cut = cut_blocks(name, BEFORE_HEAD, keep_blocks, slim_from)
        channels = cut.channels([width * factor for factor in FACTORS])
        return (
            lambda inputs, outputs: ResNet(
                block,
                depths,
                channels,
                hidden,
                spatial_dims=spatial_dims,
                in_channels=inputs,
                outputs=outputs,
            ),
            _blocks(cut.kept),
        )

    plan.__doc__ = f"ResNet-{layers} (He et al. 2016), width * (1, 2, 4, 8); head: one of HEADS."
    return network_builder(name, width=WIDTH, dense=False, imagenet=imagenet)(plan)


def _blocks(kept: int) -> list[Block]:
    blocks = [Block("stem", "stem", ("conv1.*", "bn1.*"))]
    blocks += [Block(f"encoder{n}", "encoder", (f"layer{n}.*",)) for n in range(1, kept)]
    return [*blocks, Block("head", "head", ("fc.*",))]


resnet18 = _builder(18, "basic", (2, 2, 2, 2), "resnet18-f37072fd.pth")
resnet34 = _builder(34, "basic", (3, 4, 6, 3), "resnet34-b627a593.pth")
# Its stride lies in the 3x3 convolutions, as in torchvision's.
resnet50 = _builder(50, "bottleneck", (3, 4, 6, 3), "resnet50-0676ba61.pth")
