"""Batches that lie channels-last, in training on the CPU.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def laid_last(batch: Tensor) -> Tensor:
    """The batch channels-last, explicit in the strides even with one channel; on the CPU alone."""
    if batch.device.type != "cpu":
        return batch
    images, channels, *size = batch.shape
    if channels == 1:  # whose strides torch leaves as they are
        return batch.reshape(images, *size, 1).contiguous().movedim(-1, 1)
    return batch.movedim(1, -1).contiguous().movedim(-1, 1)


def lies_last(batch: Tensor) -> bool:
    """Whether the batch is channels-last, in its strides."""
    return batch.stride(1) == 1 and math.prod(batch.shape[2:]) > 1


def with_dense_gradient(batch: Tensor) -> Tensor:
    """The batch; its gradient is laid out channels-last before others are added to it.

    That of a part of a concatenation is a view with gaps, and adding to it takes eight times as
    long as copying it first (torch 2.13).
    """
    found: Tensor = _DenseGradient.apply(batch)  # type: ignore[no-untyped-call]
    return found


class _DenseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: Tensor) -> Tensor:
        return batch.view_as(batch)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return laid_last(gradient)
