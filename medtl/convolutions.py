"""Convolutions over volumes smaller than their kernel or stride, kept out of bf16 on the CPU.

There oneDNN (as of torch 2.13) leaves those parts of the weight's gradient unwritten whose kernel
offsets meet nothing but padding: what lay in memory before becomes the gradient, NaN included.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@contextmanager
def small_in_fp32(module: nn.Module) -> Iterator[None]:
    """Within it, such convolutions of ``module`` run in float32 where autocast is on."""
    running: list[ExitStack] = []

    def enter(convolution: _ConvNd, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        image: Tensor = inputs[0]
        running.append(ExitStack())
        concerned = image.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (concerned and _smaller_than_kernel(convolution, image)):
            return None
        running[-1].enter_context(torch.autocast("cpu", enabled=False))
        return (image.float(), *inputs[1:])

    def leave(_convolution: nn.Module, _inputs: Any, _output: Any) -> None:
        running.pop().close()

    convolutions = [part for part in module.modules() if isinstance(part, _ConvNd)]
    handles = [part.register_forward_pre_hook(enter) for part in convolutions]
    handles += [part.register_forward_hook(leave, always_call=True) for part in convolutions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _smaller_than_kernel(convolution: _ConvNd, image: Tensor) -> bool:
    widths, dilations = convolution.kernel_size, convolution.dilation
    for size, width, dilation, stride in zip(
        image.shape[2:], widths, dilations, convolution.stride, strict=True
    ):
        if size < max(dilation * (width - 1) + 1, stride):
            return True
    return False
