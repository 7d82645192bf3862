"""Instance norm that is fast on the CPU in either layout, also in training (torch 2.13).

Torch's own takes three times as long as its group norm with a group per channel, which is the same
function, and gives channels-last maps back channels-first. Channels-last, group norm's gradient is
slow; batch norm of one image is instance norm, and keeps the layout. Convolutions in float32 take
half the time channels-last, their gradients too; see `benchmarks/training_step.py`.

Batch norm is slow where a vector register holds more numbers than there are channels. There several
voxels of an image are taken for one with more channels, and the statistics of these are merged.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medtl.networks.cpu.channels_last import runs_last
from medtl.networks.cpu.layout import laid_last, lies_last

#: With fewer channels than this, voxels are taken together, up to ``ROW`` numbers.
FEW, ROW = 16, 64


def normed(norm: InstanceNorm2d | InstanceNorm3d, batch: Tensor) -> Tensor | None:
    """What an affine ``norm`` without running statistics gives; None where torch's own is used."""
    if batch.device.type != "cpu" or runs_last() or math.prod(batch.shape[2:]) < 2:
        return None
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if lies_last(batch):
        given = laid_last(batch), weight, bias, eps, norm.leak
        found: Tensor = _NormLast.apply(*given)  # type: ignore[no-untyped-call]
        return found
    return leaked(functional.group_norm(batch, batch.shape[1], weight, bias, eps), norm.leak)


def leaked(batch: Tensor, leak: float) -> Tensor:
    """The batch after leaky ReLU, in place; ``leak``: the slope of negative values."""
    return batch if leak == 1 else functional.leaky_relu(batch, leak, inplace=True)


class _NormLast(torch.autograd.Function):
    """Instance norm and leaky ReLU of a channels-last batch, image by image."""

    @staticmethod
    def forward(
        ctx: Any, batch: Tensor, weight: Tensor, bias: Tensor, eps: float, leak: float
    ) -> Tensor:
        ctx.fold, ctx.leak = _fold(batch), leak
        found = torch.empty_like(batch)
        moments: list[Tensor] = []
        for image, into in zip(*_images(ctx.fold, batch, found), strict=True):
            moments += _norm(image, weight, bias, eps, ctx.fold, into)
            leaked(into, leak)
        # Where no ReLU follows, the gradient does not need the result.
        ctx.save_for_backward(batch, weight, found if leak != 1 else None, *moments)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        batch, weight, found, *moments = ctx.saved_tensors
        of_batch, sums = torch.empty_like(batch), weight.new_zeros(2, len(weight))
        parts = _images(
            ctx.fold, batch, laid_last(gradient), batch if found is None else found, of_batch
        )
        for n, (image, above, shown, into) in enumerate(zip(*parts, strict=True)):
            if ctx.leak != 1:  # a result below 0 was below 0 before, too
                above = torch.ops.aten.leaky_relu_backward(above, shown, ctx.leak, True)
            own = _gradient(image, above, weight, moments[2 * n : 2 * n + 2], ctx.fold, into)
            sums += torch.stack(own)
        return of_batch, *sums, None, None


def _fold(batch: Tensor) -> int:
    """How many voxels are taken as one."""
    channels, voxels = batch.shape[1], math.prod(batch.shape[2:])
    if channels >= FEW or voxels < ROW:
        return 1
    most = 1 << (ROW // channels).bit_length() - 1
    return math.gcd(most, voxels)


def _images(fold: int, *batches: Tensor) -> list[tuple[Tensor, ...]]:
    """The images of channels-last batches, each a batch; ``fold`` voxels of theirs as one."""
    if fold == 1:
        return [torch.split(batch, 1) for batch in batches]
    size = len(batches[0]), -1, 1, batches[0].shape[1] * fold
    rows = [batch.movedim(1, -1).view(size).movedim(-1, 1) for batch in batches]
    return [torch.split(batch, 1) for batch in rows]


def _norm(
    rows: Tensor, weight: Tensor, bias: Tensor, eps: float, fold: int, into: Tensor
) -> tuple[Tensor, Tensor]:
    """Normalise an image; returns mean and 1 / standard deviation of each channel."""
    if fold == 1:
        mean, scale = torch.empty_like(weight), torch.empty_like(weight)
        found = into, mean, scale
        torch.native_batch_norm(rows, weight, bias, None, None, True, 0.0, eps, out=found)
        return mean, scale
    weights, biases = _repeated(fold, weight, bias)
    _, *moments = torch.native_batch_norm(rows, weights, biases, None, None, True, 0.0, eps)
    means, scales = (each.view(fold, -1) for each in moments)
    mean = means.mean(0)
    scale = (scales.pow(-2) + (means - mean).square()).mean(0).rsqrt()  # eps is in each
    _map(rows, weight * scale, mean, bias, fold, into)
    return mean, scale


def _gradient(
    rows: Tensor,
    above: Tensor,
    weight: Tensor,
    moments: Sequence[Tensor],
    fold: int,
    into: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradient of an image from that of what it became; returns those of weight and bias."""
    mean, scale = moments
    gain, *moments = _repeated(fold, weight, *moments)
    given = above, rows, gain, None, None, *moments, True, 0.0
    if fold == 1:
        own, *sums = torch.ops.aten.native_batch_norm_backward(*given, [True] * 3)
        into.copy_(own)
        return sums[0], sums[1]
    _, *sums = torch.ops.aten.native_batch_norm_backward(*given, [False, True, True])
    of_weight, of_bias = (each.view(fold, -1).sum(0) for each in sums)
    gain, voxels = weight * scale, rows.numel() / len(weight)
    _map(rows, -gain * scale * of_weight / voxels, mean, -gain * of_bias / voxels, fold, into)
    zero = torch.zeros_like(mean)
    into.add_(_map(above, gain, zero, zero, fold, torch.empty_like(into)))
    return of_weight, of_bias


def _map(
    rows: Tensor, gain: Tensor, mean: Tensor, offset: Tensor, fold: int, into: Tensor
) -> Tensor:
    """``(rows - mean) * gain + offset`` per channel, computed in ``gain``'s precision."""
    gains, offsets, means, ones = _repeated(fold, gain, offset, mean, torch.ones_like(gain))
    found = into, torch.empty_like(gain), torch.empty_like(gain)
    torch.native_batch_norm(rows, gains, offsets, means, ones, False, 0.0, 0.0, out=found)
    return into


def _repeated(fold: int, *parts: Tensor) -> list[Tensor]:
    """What is given per channel, per channel of rows."""
    return [part.repeat(fold) if fold > 1 else part for part in parts]


class InstanceNorm2d(nn.InstanceNorm2d):
    """Of maps with two axes; affine, and followed by leaky ReLU.

    ``leak``: the slope of negative values.
    """

    def __init__(self, channels: int, eps: float = 1e-5, leak: float = 1.0) -> None:
        super().__init__(channels, eps, affine=True)
        self.leak = leak

    def forward(self, batch: Tensor) -> Tensor:
        found = normed(self, batch)
        return leaked(super().forward(batch), self.leak) if found is None else found


class InstanceNorm3d(nn.InstanceNorm3d):
    """Of maps with three axes, likewise."""

    def __init__(self, channels: int, eps: float = 1e-5, leak: float = 1.0) -> None:
        super().__init__(channels, eps, affine=True)
        self.leak = leak

    def forward(self, batch: Tensor) -> Tensor:
        found = normed(self, batch)
        return leaked(super().forward(batch), self.leak) if found is None else found
