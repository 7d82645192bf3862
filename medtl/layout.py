"""Channels-last on the CPU, for inference in bf16 (oneDNN, as of torch 2.13).

Channels-first, oneDNN moves the voxels of every layer to an order of its own and back, which takes
up to half of the time of a convolution. Channels-last it need not, as long as no layer between two
convolutions moves them either; torch's instance norm does, so group norm stands in for it. Layers
with few or odd numbers of channels are faster channels-first, but for those that
`medtl.convolutions` and `medtl.folding` look after.

In float32 convolutions gain less, and torch's channels-last norms lose digits there.

Axes: B batch, C channel, then the spatial axes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medtl.folding import fits_folded, fits_shuffled, folded, shuffled

#: Layers whose channels are no multiple of a vector's bf16 numbers are slow channels-last.
CHANNELS = 16
#: With fewer voxels torch's channels-last group norm is slow.
LEAST_VOXELS = 1024


_here = threading.local()


def runs_last() -> bool:
    """Whether this thread is within :class:`ChannelsLast`."""
    return getattr(_here, "depth", 0) > 0


class ChannelsLast(TorchFunctionMode):
    """Within it, 3-D networks run channels-last in this thread; without gradients only."""

    def __enter__(self) -> Self:
        _here.depth = getattr(_here, "depth", 0) + 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *problem: Any) -> None:
        _here.depth -= 1
        super().__exit__(*problem)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        layer = _LAYERS.get(func)
        kwargs = kwargs or {}
        return layer(func, *args, **kwargs) if layer and args else func(*args, **kwargs)


class FreeViews(TorchFunctionMode):
    """Within it, networks may view what a convolution returns as if it were channels-first."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return _view(func, *args, **kwargs) if func is Tensor.view else func(*args, **kwargs)


def _convolve(
    convolution: Callable[..., Tensor],
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *settings: Any,
    **named: Any,
) -> Tensor:
    if not named:
        if convolution is torch.conv3d and fits_folded(image, weight, *settings):
            return folded(image, weight, bias)
        if convolution is torch.conv_transpose3d and fits_shuffled(image, weight, *settings):
            return shuffled(image, weight, bias)
    if not any(count % CHANNELS for count in weight.shape[:2]):
        image = image.to(memory_format=torch.channels_last_3d)
    return convolution(image, weight, bias, *settings, **named)


def _instance_norm(
    norm: Callable[..., Tensor],
    image: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if use_input_stats and running_mean is None and _lies_last(image):
        return functional.group_norm(image, image.shape[1], weight, bias, eps)
    return norm(image, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _view(view: Callable[..., Tensor], image: Tensor, *sizes: Any, **named: Any) -> Tensor:
    """Networks view what a convolution returns as if it were channels-first."""
    if named or any(isinstance(size, torch.dtype) for size in sizes):
        return view(image, *sizes, **named)
    return image.reshape(*sizes)


def _lies_last(image: Tensor) -> bool:
    return (
        image.ndim == 5
        and image.shape[1] % CHANNELS == 0
        and image[0, 0].numel() >= LEAST_VOXELS
        and image.is_contiguous(memory_format=torch.channels_last_3d)
    )


_LAYERS: dict[Any, Callable[..., Tensor]] = {
    torch.conv3d: _convolve,
    torch.conv_transpose3d: _convolve,
    functional.instance_norm: _instance_norm,
    Tensor.view: _view,
}
