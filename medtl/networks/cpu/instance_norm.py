"""Instance norm that is fast on the CPU in either layout, also in training (torch 2.13).

Torch's own takes three times as long as its group norm with a group per channel, which is the same
function, and gives channels-last maps back channels-first. Channels-last, group norm's gradient is
slow; batch norm of one image is instance norm, and keeps the layout. Convolutions in float32 take
half the time channels-last, their gradients too; see `benchmarks/training_step.py`.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.cpu.channels_last import runs_last


def laid_last(batch: Tensor) -> Tensor:
    """The batch channels-last, explicit in the strides even with one channel; on the CPU alone."""
    if batch.device.type != "cpu":
        return batch
    images, channels, *size = batch.shape
    if channels == 1:  # whose strides torch leaves as they are
        return batch.reshape(images, *size, 1).movedim(-1, 1)
    return batch.movedim(1, -1).contiguous().movedim(-1, 1)


def lies_last(batch: Tensor) -> bool:
    """Whether the batch is channels-last, in its strides."""
    return batch.stride(1) == 1 and math.prod(batch.shape[2:]) > 1


def normed(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, batch: Tensor) -> Tensor | None:
    """What an affine ``norm`` without running statistics gives; None where torch's own is used."""
    if batch.device.type != "cpu" or runs_last() or math.prod(batch.shape[2:]) < 2:
        return None
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if not lies_last(batch):
        return functional.group_norm(batch, batch.shape[1], weight, bias, eps)
    # Slices: of image[None] the strides mislead torch's gradient, which is wrong then.
    images = [batch[n : n + 1] for n in range(len(batch))]
    each = [functional.batch_norm(one, None, None, weight, bias, True, 0.0, eps) for one in images]
    return each[0] if len(each) == 1 else torch.cat(each)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Of maps with two axes; affine."""

    def forward(self, batch: Tensor) -> Tensor:
        found = normed(self, batch)
        return super().forward(batch) if found is None else found


class InstanceNorm3d(nn.InstanceNorm3d):
    """Of maps with three axes; affine."""

    def forward(self, batch: Tensor) -> Tensor:
        found = normed(self, batch)
        return super().forward(batch) if found is None else found
