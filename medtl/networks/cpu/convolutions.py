"""Convolutions on the CPU, where oneDNN (as of torch 2.13) needs help to be right and fast.

- Over volumes smaller than the kernel or stride, bf16 does not write those parts of the weight's
  gradient whose kernel offsets meet only padding: old memory becomes the gradient, even NaN. These
  convolutions run in float32.
- On processors with AVX2 but without AVX-512, a pointwise 2-D convolution with a stride, over a
  channels-last map of fewer channels than a vector register holds, writes its weight's gradient
  past the end of its memory, and the process crashes or hangs. They run channels-first.
- Without oneDNN a convolution takes four times as long. Small single images go to it as a batch of
  two halves (`medtl.networks.cpu.halves`).
- With very few channels, as at the output of a U-Net, channels-first takes twice the time of
  channels-last. Other 3-D convolutions are faster channels-first, unless all layers between them
  are channels-last too (`medtl.networks.cpu.channels_last`).
- In 2-D a network is faster channels-last, also in training, except for maps of a few pixels and
  networks with norms other than batch norm, which are slow channels-last.

See `benchmarks/inference.py`, `benchmarks/training_step.py` and `benchmarks/classification.py`.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from medtl.networks.cpu.channels_last import FreeViews, runs_last
from medtl.networks.cpu.halves import Halves, halves_of
from medtl.networks.cpu.layout import lies_last

#: At most this many channels, in or out, are few.
FEW_CHANNELS = 3


#: Floats in a vector register of AVX2.
VECTOR = 8


#: 2-D maps of at most this many pixels are faster channels-first.
FEW_PIXELS = 16


#: Norms that are slow channels-last.
SLOW_LAST = (_InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(slots=True)
class _Call:
    """A convolution that runs."""

    stack: ExitStack  #: the settings to undo after it
    came_last: bool  #: whether its input lay channels-last
    cut: Halves | None = None  #: how its input was cut


class _Running(threading.local):
    """The convolutions that run in this thread, one within another."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []


@contextmanager
def suited_to_cpu(module: nn.Module) -> Iterator[None]:
    """Within it, the convolutions of ``module`` run as above on the CPU."""
    running = _Running()
    parts = list(module.modules())
    convolutions = [part for part in parts if isinstance(part, _ConvNd)]
    last = not any(isinstance(part, SLOW_LAST) for part in parts)

    def enter(convolution: _ConvNd, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        image: Tensor = inputs[0]
        call = _Call(ExitStack(), lies_last(image))
        running.calls.append(call)
        if image.device.type != "cpu":
            return None
        image = _suited(convolution, image, call.stack, last=last)
        if not torch.is_autocast_enabled("cpu"):
            call.cut = halves_of(convolution, image)
        return (image if call.cut is None else call.cut.split(image), *inputs[1:])

    def leave(convolution: _ConvNd, _inputs: Any, output: Any) -> Tensor | None:
        call = running.calls.pop()
        call.stack.close()
        if not isinstance(output, Tensor):  # it raised
            return None
        whole = output if call.cut is None else call.cut.join(output)
        return _for_next(convolution, whole, last=last, came_last=call.came_last)

    handles = [part.register_forward_pre_hook(enter) for part in convolutions]
    # First of all hooks, so that others see the outputs of whole images.
    handles += [
        part.register_forward_hook(leave, always_call=True, prepend=True) for part in convolutions
    ]
    flat = any(isinstance(part, nn.Conv2d) for part in convolutions)
    try:
        with FreeViews() if flat and last else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _for_next(convolution: _ConvNd, output: Tensor, *, last: bool, came_last: bool) -> Tensor:
    """The output in the layout that the next layers take; ``last``: they run channels-last."""
    laid_out = last and output.ndim == 4 and output.shape[1] > FEW_CHANNELS
    if laid_out or not _few_channels(convolution):
        return output
    stays = (runs_last() or came_last) and convolution.out_channels > FEW_CHANNELS
    return output if stays else output.contiguous()


def _suited(convolution: _ConvNd, image: Tensor, stack: ExitStack, *, last: bool) -> Tensor:
    """The image in the type and layout that suit the convolution; ``stack`` takes settings to undo.

    ``last``: whether maps of two axes are channels-last throughout the network.
    """
    if torch.is_autocast_enabled("cpu") and _smaller_than_kernel(convolution, image):
        stack.enter_context(torch.autocast("cpu", enabled=False))
        return image.float()
    if _overruns_last(convolution):
        return image.contiguous()
    if _few_channels(convolution) and image.ndim == 5:
        return image.to(memory_format=torch.channels_last_3d)
    return _laid_out(image) if last and image.ndim == 4 else image


def _laid_out(image_BCIJ: Tensor) -> Tensor:
    """Channels-last if the map has more than a few pixels; explicit in the strides even with one
    channel, whose strides fit either layout."""
    _, channels, *size = image_BCIJ.shape
    if math.prod(size) <= FEW_PIXELS:
        return image_BCIJ.contiguous()
    if channels == 1:
        return image_BCIJ.reshape(-1, *size, 1).movedim(3, 1)
    return image_BCIJ.contiguous(memory_format=torch.channels_last)


def _few_channels(convolution: _ConvNd) -> bool:
    few = min(convolution.in_channels, convolution.out_channels) <= FEW_CHANNELS
    return few and max(convolution.kernel_size) > 1


def _overruns_last(convolution: _ConvNd) -> bool:
    pointwise = isinstance(convolution, nn.Conv2d) and max(convolution.kernel_size) == 1
    return pointwise and max(convolution.stride) > 1 and convolution.in_channels < VECTOR


def _smaller_than_kernel(convolution: _ConvNd, image: Tensor) -> bool:
    widths, dilations = convolution.kernel_size, convolution.dilation
    for size, width, dilation, stride in zip(
        image.shape[2:], widths, dilations, convolution.stride, strict=True
    ):
        if size < max(dilation * (width - 1) + 1, stride):
            return True
    return False
