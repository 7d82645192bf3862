"""A 3-D convolution of one small image as that of a batch of its two halves (torch 2.13).

In float32 torch gives a convolution to oneDNN only if the batch has several images, or one whose
first axes, without the last, hold more than 20,480 numbers. What it takes for the others needs
four times as long, in training too. The halves overlap by what the kernel reaches over.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medtl.networks.layers import Conv3dReLU

#: The largest image for which torch does not use oneDNN: its numbers without the last axis.
FEW_NUMBERS = 20_480

#: Larger kernels go to oneDNN however small the image is.
LARGE_KERNEL = 3


@dataclass(frozen=True, slots=True)
class Halves:
    """How an axis is cut: both halves have the same length, and each output one valid place."""

    axis: int
    start: int  #: of the second half, in voxels of the image
    first: int  #: outputs taken from the first half, all from its beginning
    skipped: int  #: outputs at the beginning of the second half that are left out

    def split(self, image: Tensor) -> Tensor:
        """The two halves as a batch."""
        length = image.shape[self.axis] - self.start
        parts = image.narrow(self.axis, 0, length), image.narrow(self.axis, self.start, length)
        return torch.cat(parts)

    def join(self, outputs: Tensor) -> Tensor:
        """The outputs of the halves as those of the whole."""
        count = outputs.shape[self.axis]
        first = outputs[:1].narrow(self.axis, 0, self.first)
        return torch.cat(
            (first, outputs[1:].narrow(self.axis, self.skipped, count - self.skipped)), self.axis
        )


def halves_of(convolution: nn.Module, image: Tensor) -> Halves | None:
    """How to cut the image; None where torch takes oneDNN anyway, or halves would be no smaller."""
    if image.ndim != 5 or image.shape[0] != 1 or image.dtype != torch.float32:
        return None
    if math.prod(image.shape[1:4]) > FEW_NUMBERS or not _is_plain(convolution):
        return None
    assert isinstance(convolution, nn.Conv3d)
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    if isinstance(padding, str) or convolution.padding_mode != "zeros" or convolution.groups > 1:
        return None
    if max(convolution.dilation) > 1 or min(kernel[1:]) > LARGE_KERNEL or max(kernel) == 1:
        return None
    axis = max((2, 3, 4), key=lambda one: image.shape[one])
    edge, step, pad = kernel[axis - 2], stride[axis - 2], padding[axis - 2]
    return _cut(axis, image.shape[axis], edge, step, pad)


def _is_plain(convolution: nn.Module) -> bool:
    """Whether it is torch's own convolution, whose padding is what its attributes say."""
    if not isinstance(convolution, nn.Conv3d) or not _has_onednn():
        return False
    kind = type(convolution)
    own = kind.forward in (nn.Conv3d.forward, Conv3dReLU.forward)
    return own and kind._conv_forward is nn.Conv3d._conv_forward


def _has_onednn() -> bool:
    backend: Any = torch.backends.mkldnn
    return bool(backend.is_available() and backend.enabled)


def _cut(axis: int, size: int, kernel: int, stride: int, padding: int) -> Halves | None:
    """The latest start of the second half at which the two still have all outputs between them."""
    skipped = -(-padding // stride)  # outputs of the second half that begin before it
    for start in range(stride * ((size - 1) // stride), 0, -stride):
        needed = start // stride + skipped  # of the first half
        if (size - start - kernel + padding) // stride + 1 >= needed:
            return Halves(axis, start, needed, skipped)
    return None
