"""VGG (Simonyan and Zisserman 2015) as a network of named blocks, with a choice of heads.

Tensors have the names of torchvision's checkpoints and, in 2-D, their shapes.

Axes: B batch, C channel, I J K voxel axes, L class.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medtl.networks.blocks import Block, NetworkBuilder
from medtl.networks.builder import Architecture, network_builder
from medtl.networks.layers import (
    BatchNorm2dReLU,
    BatchNorm3dReLU,
    Conv2dReLU,
    Conv3dReLU,
    perceptron,
    start_as_published,
)
from medtl.networks.options import choose_head, cut_blocks
from medtl_vgg_classifier.plugin import RENAMED

#: Convolutions in each of the five stages, and the stages' channels in units of the width.
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
FACTORS = (1, 2, 4, 8, 8)
#: The width that the sizes of the heads below belong to; they scale with it.
WIDTH = 64
#: Edge of what the features are pooled to. In 3-D, 7 cubed would make 700 million weights.
GRID = {2: 7, 3: 3}

STOCK = "torchvision"
#: head -> whether it pools to one number per channel; hidden layers: numbers, share dropped
HEADS: dict[str, tuple[bool, tuple[tuple[int, float], ...]]] = {
    STOCK: (False, ((4096, 0.5), (4096, 0.5))),
    "hidden-2048-256": (False, ((2048, 0.7), (256, 0.6))),
    "hidden-128": (False, ((128, 0.5),)),
    "gap-128": (True, ((128, 0.5),)),
}
STAGES = ("stem", "encoder1", "encoder2", "encoder3", "encoder4")

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_CONVOLUTION_RELU = {2: Conv2dReLU, 3: Conv3dReLU}
_NORM_RELU = {2: BatchNorm2dReLU, 3: BatchNorm3dReLU}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class VGG(nn.Module):
    """3x3 convolutions in stages that each end in a 2x2 pooling, then a pooling and a head."""

    def __init__(self, features: nn.Sequential, avgpool: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.avgpool = avgpool
        self.classifier = classifier

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(batch_BCIJ)).flatten(1))


def _places(depths: Sequence[int], norm: bool) -> list[range]:
    """Indices of each stage in torchvision's list of layers: convolution, norm or not, ReLU."""
    places, first = [], 0
    for depth in depths:
        behind = first + depth * _step(norm)
        places.append(range(first, behind))
        first = behind + 1  # the pooling
    return places


def _step(norm: bool) -> int:
    return 3 if norm else 2


def _features(
    dims: int, in_channels: int, stages: Sequence[tuple[range, int]], norm: bool
) -> nn.Sequential:
    """The stages, each (its places, its channels), in one list numbered as torchvision's."""
    features = nn.Sequential()
    kind = _CONVOLUTION[dims] if norm else _CONVOLUTION_RELU[dims]
    for places, out_channels in stages:
        for place in places[:: _step(norm)]:
            features.add_module(str(place), kind(in_channels, out_channels, 3, padding=1))
            if norm:
                features.add_module(str(place + 1), _NORM_RELU[dims](out_channels))
            in_channels = out_channels
        features.add_module(str(places.stop), _MAX_POOL[dims](2))
    return features


def _builder(layers: int, imagenet: str, *, norm: bool = False) -> NetworkBuilder:
    name = f"vgg{layers}{'-bn' if norm else ''}"

    def plan(
        spatial_dims: int,
        width: int,
        *,
        head: str = STOCK,
        keep_blocks: int | None = None,
        slim_from: int | None = None,
    ) -> Architecture:
        pooled, published = choose_head(name, head, HEADS, RENAMED)
        stock = head == STOCK
        cut = cut_blocks(name, (*STAGES, "hidden") if stock else STAGES, keep_blocks, slim_from)
        sizes = cut.channels([width * n for n in FACTORS] + [_scaled(4096, width)])
        stages = list(zip(_places(DEPTHS[layers], norm), sizes, strict=False))
        hidden = [(_scaled(size, width), dropped) for size, dropped in published]
        if stock:
            hidden = [(sizes[-1], dropped) for _, dropped in published if cut.kept == 6]
        edge = 1 if pooled else GRID[spatial_dims]

        def make(in_channels: int, outputs: int) -> VGG:
            features = _features(spatial_dims, in_channels, stages, norm)
            classifier = perceptron(stages[-1][1] * edge**spatial_dims, hidden, outputs)
            features.apply(start_as_published)
            if stock:
                classifier.apply(_start_small)
            return VGG(features, _AVERAGE_POOL[spatial_dims](edge), classifier)

        return make, _blocks([places for places, _ in stages], carried=bool(hidden) and stock)

    plan.__doc__ = f"VGG-{layers}{' with batch norm' if norm else ''}; ``head`` is one of HEADS."
    return network_builder(name, width=WIDTH, dense=False, imagenet=imagenet)(plan)


def _scaled(size: int, width: int) -> int:
    return max(1, size * width // WIDTH)


def _blocks(stages: Sequence[range], *, carried: bool) -> list[Block]:
    """Blocks of the stages, each given by its places; ``carried``: the head is torchvision's."""
    blocks = [
        Block(name, "encoder" if number else "stem", tuple(f"features.{n}.*" for n in places))
        for number, (name, places) in enumerate(zip(STAGES, stages, strict=False))
    ]
    if not carried:
        return [*blocks, Block("head", "head", ("classifier.*",))]
    hidden = Block("hidden", "bottleneck", ("classifier.0.*", "classifier.3.*"))
    return [*blocks, hidden, Block("head", "head", ("classifier.6.*",))]


def _start_small(module: nn.Module) -> None:
    """As torchvision initialises the linear layers of its own head."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


vgg11 = _builder(11, "vgg11-8a719046.pth")
vgg13 = _builder(13, "vgg13-19584684.pth")
vgg16 = _builder(16, "vgg16-397923af.pth")
vgg19 = _builder(19, "vgg19-dcbb9e9d.pth")
vgg11_bn = _builder(11, "vgg11_bn-6002323d.pth", norm=True)
vgg13_bn = _builder(13, "vgg13_bn-abd245e5.pth", norm=True)
vgg16_bn = _builder(16, "vgg16_bn-6c64b313.pth", norm=True)
vgg19_bn = _builder(19, "vgg19_bn-c79401a0.pth", norm=True)
