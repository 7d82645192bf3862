"""U-Nets that are planned per axis: plain and with residual encoder.

Their tensors have the names of nnU-Net's PlainConvUNet and ResidualEncoderUNet, whose checkpoints
load one to one (Isensee et al. 2021, 2024).

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.errors import ConfigError
from medtl.networks.builder import Architecture, network_builder
from medtl.networks.cpu.instance_norm import InstanceNorm2d, InstanceNorm3d
from medtl.networks.cpu.layout import laid_last, with_dense_gradient
from medtl.networks.cpu.transposed import ConvTranspose2d, ConvTranspose3d
from medtl_unet3d.layout import ladder

#: Slope of leaky ReLU for negative values.
SLOPE = 0.01

#: Most channels of a level that doubling leads to, by the number of axes.
MOST_CHANNELS = {2: 512, 3: 320}

#: Levels where none are planned: 16 voxels of the image are one of the deepest level.
USUAL_STRIDES = (1, 2, 2, 2, 2)

#: Residual blocks of each level; the last number holds for deeper levels.
RESIDUAL_BLOCKS = (1, 3, 4, 6)

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: ConvTranspose2d, 3: ConvTranspose3d}
NORM = {2: InstanceNorm2d, 3: InstanceNorm3d}
POOLING = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

Axes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Levels:
    """Numbers of each level of a U-Net, from the finest."""

    dims: int
    channels: tuple[int, ...]
    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    blocks: tuple[int, ...]  #: convolutions or residual blocks of the encoder
    decoder_blocks: tuple[int, ...]  #: convolutions of the decoder, from the deepest

    def encoder(self, inputs: int) -> Iterator[tuple[int, int, Axes, Axes, int]]:
        """Inputs, outputs, kernel, stride and number of blocks of each level of the encoder."""
        before = (inputs, *self.channels[:-1])
        return zip(before, self.channels, self.kernels, self.strides, self.blocks, strict=True)


class ConvNorm(nn.Module):
    """Convolution, instance norm and, if ``active``, leaky ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Axes,
        stride: Axes,
        *,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        dims, padding = len(kernel), tuple((edge - 1) // 2 for edge in kernel)
        self.conv = CONVOLUTION[dims](inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = NORM[dims](outputs, leak=SLOPE if active else 1.0)

    def forward(self, batch: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(batch))
        return normed


def _repeated(
    block: Callable[[int, int, Axes, Axes], nn.Module],
    inputs: int,
    outputs: int,
    kernel: Axes,
    stride: Axes,
    count: int,
) -> nn.Sequential:
    """``count`` blocks, one after the other; the first has the inputs and the stride."""
    once = (1,) * len(kernel)
    return nn.Sequential(
        block(inputs, outputs, kernel, stride),
        *(block(outputs, outputs, kernel, once) for _ in range(count - 1)),
    )


class Convolutions(nn.Module):
    """Several :class:`ConvNorm`, the first with the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes, count: int) -> None:
        super().__init__()
        self.convs = _repeated(ConvNorm, inputs, outputs, kernel, stride, count)

    def forward(self, batch: Tensor) -> Tensor:
        return self.convs(batch)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which averages and projects where shapes differ."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        dims, once = len(kernel), (1,) * len(kernel)
        self.conv1 = ConvNorm(inputs, outputs, kernel, stride)
        self.conv2 = ConvNorm(outputs, outputs, kernel, once, active=False)
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(POOLING[dims](stride, stride))
        if inputs != outputs:
            shortcut.append(ConvNorm(inputs, outputs, once, once, bias=False, active=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, batch: Tensor) -> Tensor:
        through = self.conv2(self.conv1(batch))
        return functional.leaky_relu(through + self.skip(batch), SLOPE, inplace=True)


class ResidualStage(nn.Module):
    """Several :class:`Residual` blocks, the first with the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes, count: int) -> None:
        super().__init__()
        self.blocks = _repeated(Residual, inputs, outputs, kernel, stride, count)

    def forward(self, batch: Tensor) -> Tensor:
        return self.blocks(batch)


class PlainEncoder(nn.Module):
    """Convolutions per level; a stride leads down."""

    def __init__(self, in_channels: int, levels: Levels) -> None:
        super().__init__()
        # Each level is a sequence of one in nnU-Net, where pooling may stand before it.
        self.stages = nn.Sequential(
            *(nn.Sequential(Convolutions(*each)) for each in levels.encoder(in_channels))
        )

    def forward(self, batch: Tensor) -> list[Tensor]:
        return _each_level(self.stages, batch)


class ResidualEncoder(nn.Module):
    """A stem of one convolution, then residual blocks per level."""

    def __init__(self, in_channels: int, levels: Levels) -> None:
        super().__init__()
        first, once = levels.channels[0], (1,) * levels.dims
        self.stem = Convolutions(in_channels, first, levels.kernels[0], once, 1)
        self.stages = nn.Sequential(*(ResidualStage(*each) for each in levels.encoder(first)))

    def forward(self, batch: Tensor) -> list[Tensor]:
        return _each_level(self.stages, self.stem(batch))


def _each_level(stages: nn.Sequential, batch: Tensor) -> list[Tensor]:
    """The maps of every level, from the finest."""
    maps = []
    for stage in stages:
        batch = stage(batch)
        maps.append(batch)
    return maps


class Decoder(nn.Module):
    """Transposed convolutions lead up, the encoder's maps beside them; logits on every level."""

    def __init__(self, out_channels: int, levels: Levels) -> None:
        super().__init__()
        self.stages, self.transpconvs = nn.ModuleList(), nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        deepest = len(levels.channels) - 1
        for level, count in zip(reversed(range(deepest)), levels.decoder_blocks, strict=True):
            below, own = levels.channels[level + 1], levels.channels[level]
            stride, once = levels.strides[level + 1], (1,) * levels.dims
            self.transpconvs.append(TRANSPOSED[levels.dims](below, own, stride, stride))
            self.stages.append(Convolutions(2 * own, own, levels.kernels[level], once, count))
            self.seg_layers.append(CONVOLUTION[levels.dims](own, out_channels, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Logits at full resolution; in training a list with those of the coarser levels after."""
        *skips, deeper = maps
        found: list[Tensor] = []
        for n, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            skip = with_dense_gradient(skips[-1 - n])
            deeper = stage(torch.cat((up(deeper), skip), dim=1))
            if self.training:
                found.append(self.seg_layers[n](deeper))
        return found[::-1] if self.training else self.seg_layers[-1](deeper)


class PlannedUNet(nn.Module):
    """An encoder and a decoder, with the initial weights of nnU-Net."""

    def __init__(self, encoder: nn.Module, out_channels: int, levels: Levels) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(out_channels, levels)
        self.apply(_start)

    def forward(self, batch: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(laid_last(batch)))


def _start(module: nn.Module) -> None:
    """He et al. 2015 for leaky ReLU; a residual block starts as its shortcut."""
    if isinstance(module, (*CONVOLUTION.values(), *TRANSPOSED.values())):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Residual):
        nn.init.zeros_(module.conv2.norm.weight)
        nn.init.zeros_(module.conv2.norm.bias)


def multiples(dims: int, options: Mapping[str, Any]) -> Axes:
    """What the edges of a patch must be multiples of, per axis."""
    given = options["strides"]
    strides = _per_axis("strides", USUAL_STRIDES if given is None else given, dims)
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


@network_builder("plain-unet", width=32, patch_multiple=multiples)
def plain_unet(
    spatial_dims: int,
    width: int,
    *,
    strides: Any = None,
    kernels: Any = None,
    channels: Any = None,
    blocks: Any = None,
    decoder_blocks: Any = None,
) -> Architecture:
    """nnU-Net's U-Net: two convolutions per level, full resolution in the first.

    Args:
        width: channels of the first level; they double up to 320 (512 in 2-D).
        strides: per level, one number or one per axis; planned from the data where None.
        kernels: per level, likewise.
        channels: of each level, in place of ``width`` and its doubling.
        blocks: convolutions per level of the encoder; deeper levels have as many as the last.
        decoder_blocks: convolutions per level of the decoder, from the deepest; levels that are
            deeper still have as many as the first.
    """
    options = {"strides": strides, "kernels": kernels, "channels": channels}
    options |= {"blocks": blocks, "decoder_blocks": decoder_blocks}
    levels = settle("plain-unet", spatial_dims, width, options, usual=((2,), 2))
    return (
        lambda inputs, outputs: PlannedUNet(PlainEncoder(inputs, levels), outputs, levels),
        _blocks(levels, stem="encoder.stages.0"),
    )


@network_builder("resenc-unet", width=32, patch_multiple=multiples)
def resenc_unet(
    spatial_dims: int,
    width: int,
    *,
    strides: Any = None,
    kernels: Any = None,
    channels: Any = None,
    blocks: Any = None,
    decoder_blocks: Any = None,
) -> Architecture:
    """nnU-Net's U-Net with a residual encoder (Isensee et al. 2024), options as ``plain-unet``.

    Its levels have 1, 3, 4, 6, 6, ... residual blocks, its decoder one convolution per level.
    """
    options = {"strides": strides, "kernels": kernels, "channels": channels}
    options |= {"blocks": blocks, "decoder_blocks": decoder_blocks}
    levels = settle("resenc-unet", spatial_dims, width, options, usual=(RESIDUAL_BLOCKS, 1))
    return (
        lambda inputs, outputs: PlannedUNet(ResidualEncoder(inputs, levels), outputs, levels),
        _blocks(levels, stem="encoder.stem encoder.stages.0"),
    )


def _blocks(levels: Levels, stem: str) -> Any:
    deepest = len(levels.channels) - 1
    return ladder(
        [stem, *(f"encoder.stages.{level}" for level in range(1, deepest + 1))],
        [f"decoder.stages.{n} decoder.transpconvs.{n}" for n in range(deepest)],
        "decoder.seg_layers",
    )


def settle(
    name: str,
    dims: int,
    width: int,
    options: Mapping[str, Any],
    *,
    usual: tuple[Sequence[int], int],
) -> Levels:
    """The options of a network, checked, with what is usual where they are None.

    Args:
        usual: blocks per level of the encoder, the last number for deeper levels, and those of
            each level of the decoder.
    """
    given = {option: value for option, value in options.items() if value is not None}
    strides = _per_axis("strides", given.get("strides", USUAL_STRIDES), dims)
    count = len(strides)
    if count < 2 or max(strides[0]) > 1:
        raise ConfigError(f"{name}: strides has 2 levels or more, the first of stride 1")
    kernels = _per_axis("kernels", given.get("kernels", [3] * count), dims)
    if any(edge % 2 == 0 for kernel in kernels for edge in kernel):
        raise ConfigError(f"{name}: kernels must be odd")
    most, (encoder, decoder) = max(MOST_CHANNELS[dims], width), usual
    rows = {
        "channels": [min(width * 2**level, most) for level in range(count)],
        "blocks": [encoder[min(level, len(encoder) - 1)] for level in range(count)],
        "decoder_blocks": [decoder] * (count - 1),
    }
    numbers = {option: _numbers(option, given.get(option, row)) for option, row in rows.items()}
    for option in ("blocks", "decoder_blocks"):
        numbers[option] = _deepened(numbers[option], len(rows[option]), option)
    for option, values in {"kernels": kernels, **numbers}.items():
        wanted = count - 1 if option == "decoder_blocks" else count
        if len(values) != wanted:
            raise ConfigError(
                f"{name}: {option} has {len(values)} levels, but strides asks for {wanted}"
            )
    return Levels(dims, numbers["channels"], strides, kernels, *list(numbers.values())[1:])


def _deepened(numbers: tuple[int, ...], levels: int, option: str) -> tuple[int, ...]:
    """With the deepest number once more for every deeper level."""
    missing = max(0, levels - len(numbers)) if numbers else 0
    if option == "decoder_blocks":  # from the deepest
        return numbers[:1] * missing + numbers
    return numbers + numbers[-1:] * missing


def _per_axis(option: str, given: Any, dims: int) -> tuple[Axes, ...]:
    """One number or one per axis for every level, as one per axis."""
    if not isinstance(given, list | tuple):
        raise ConfigError(f"options.{option} is a list, an entry per level, not {given!r}")
    rows = [each if isinstance(each, list | tuple) else [each] * dims for each in given]
    for row in rows:
        if len(row) != dims or not all(_natural(edge) for edge in row):
            raise ConfigError(
                f"options.{option} needs a number from 1 on for each of {dims} axes, not {row}"
            )
    return tuple(tuple(row) for row in rows)


def _numbers(option: str, given: Any) -> tuple[int, ...]:
    if not isinstance(given, list | tuple) or not all(_natural(each) for each in given):
        raise ConfigError(f"options.{option} is a list of numbers from 1 on, not {given!r}")
    return tuple(given)


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
