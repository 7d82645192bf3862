"""Transposed convolutions without overlap, which train fast on the CPU (torch 2.13).

With a stride as wide as the kernel, every voxel becomes a block of its own: a matrix product and a
reordering. oneDNN takes six times as long for the gradient of such a weight. Without gradients its
own way is faster.

Axes: B batch, C channel, O output channel, then the spatial axes; E voxels of a block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.cpu.layout import lies_last


def spread(convolution: nn.ConvTranspose2d | nn.ConvTranspose3d, batch: Tensor) -> Tensor | None:
    """What the convolution gives, channels-last; None where torch's own way is used."""
    if batch.device.type != "cpu" or not torch.is_grad_enabled() or not lies_last(batch):
        return None
    if not _apart(convolution):
        return None
    stride, dims = convolution.stride, batch.ndim - 2
    images, _, *size = batch.shape
    weight_CEO = convolution.weight.flatten(2).movedim(1, 2)
    bias_O = convolution.bias
    bias_EO = None if bias_O is None else bias_O.repeat(math.prod(stride))
    product = functional.linear(batch.movedim(1, -1), weight_CEO.flatten(1).T, bias_EO)
    blocks = product.view(images, *size, *stride, -1)
    pairs = ((1 + axis, 1 + dims + axis) for axis in range(dims))
    mixed = blocks.permute(0, *(axis for pair in pairs for axis in pair), 2 * dims + 1)
    edges = [edge * step for edge, step in zip(size, stride, strict=True)]
    return mixed.reshape(images, *edges, -1).movedim(-1, 1)


def _apart(convolution: nn.ConvTranspose2d | nn.ConvTranspose3d) -> bool:
    """Whether the voxels become blocks beside one another, and nothing else."""
    other = (*convolution.padding, *convolution.output_padding)
    settings = convolution.groups == 1 and max(convolution.dilation) == 1 and not any(other)
    return settings and convolution.stride == convolution.kernel_size


class ConvTranspose2d(nn.ConvTranspose2d):
    """Of maps with two axes."""

    def forward(self, batch: Tensor, output_size: list[int] | None = None) -> Tensor:
        found = spread(self, batch) if output_size is None else None
        return super().forward(batch, output_size) if found is None else found


class ConvTranspose3d(nn.ConvTranspose3d):
    """Of maps with three axes."""

    def forward(self, batch: Tensor, output_size: list[int] | None = None) -> Tensor:
        found = spread(self, batch) if output_size is None else None
        return super().forward(batch, output_size) if found is None else found
