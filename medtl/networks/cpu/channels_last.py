"""Channels-last on the CPU, for inference in bf16 (oneDNN, as of torch 2.13).

With channels first, oneDNN reorders the voxels of every layer and back, which takes up to half of
the time of a convolution. With channels last it does not, if no layer between two convolutions
reorders them. Torch's instance norm does, so group norm replaces it. Layers with few or odd numbers
of channels are faster channels-first, except those of :func:`folded`, :func:`shuffled` and
`medtl.networks.cpu.convolutions`.

In float32 convolutions gain less, and torch's channels-last norms lose digits.

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

#: Layers whose channels are not a multiple of this (bf16 in a vector) are slow channels-last.
CHANNELS = 16


#: Torch's channels-last group norm is slow with fewer voxels.
LEAST_VOXELS = 1024


_here = threading.local()


def runs_last() -> bool:
    """Whether this thread is within :class:`ChannelsLast`."""
    return getattr(_here, "depth", 0) > 0


class ChannelsLast(TorchFunctionMode):
    """Within it, 3-D networks run channels-last in this thread; only without gradients."""

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
    """Within it, networks may view a convolution's output as if it were channels-first."""

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
    """Networks view a convolution's output as if it were channels-first."""
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


#: This many neighbours along K become channels.
FOLD = 4


#: With more outputs the processor's vectors are full without folding.
MOST = 4


TAPS = (3, 3, 3)


_ONES, _TWOS = (1, 1, 1), (2, 2, 2)


def fits_folded(image_BCIJK: Tensor, weight_OCIJK: Tensor, *settings: Any) -> bool:
    """Whether :func:`folded` equals ``conv3d`` with this stride, padding, dilation and groups."""
    return (
        settings == (_ONES, _ONES, _ONES, 1)
        and weight_OCIJK.shape[2:] == TAPS
        and max(weight_OCIJK.shape[:2]) <= MOST
        and image_BCIJK.ndim == 5
        and image_BCIJK.shape[-1] % FOLD == 0
    )


def fits_shuffled(image_BCIJK: Tensor, weight_COIJK: Tensor, *settings: Any) -> bool:
    """Whether :func:`shuffled` equals ``conv_transpose3d`` with this stride, padding, output
    padding, groups and dilation."""
    return (
        settings == (_TWOS, _ONES, _ONES, 1, _ONES)
        and weight_COIJK.shape[2:] == TAPS
        and weight_COIJK.shape[1] <= MOST
        and image_BCIJK.ndim == 5
    )


def folded(image_BCIJK: Tensor, weight_OCIJK: Tensor, bias_O: Tensor | None) -> Tensor:
    """A convolution of width 3 that keeps the size. ``FOLD`` divides K; image and output are
    channels-last."""
    batch, channels, i, j, k = image_BCIJK.shape
    outputs = len(weight_OCIJK)
    wide = weight_OCIJK.new_zeros(FOLD, outputs, FOLD, channels, *TAPS)
    for to in range(FOLD):
        for tap in range(3):
            step, source = divmod(to + tap - 1, FOLD)
            wide[to, :, source, :, :, :, 1 + step] = weight_OCIJK[..., tap]
    rows = image_BCIJK.movedim(1, -1).reshape(batch, i, j, k // FOLD, FOLD * channels)
    product = torch.conv3d(
        rows.movedim(-1, 1),
        wide.view(FOLD * outputs, FOLD * channels, *TAPS),
        None if bias_O is None else bias_O.repeat(FOLD),
        padding=1,
    )
    return product.movedim(1, -1).reshape(batch, i, j, k, outputs).movedim(-1, 1)


def shuffled(image_BCIJK: Tensor, weight_COIJK: Tensor, bias_O: Tensor | None) -> Tensor:
    """A transposed convolution of width 3 and stride 2 that doubles the size; channels-first."""
    batch, channels, i, j, k = image_BCIJK.shape
    outputs = weight_COIJK.shape[1]
    # Voxel 2m is voxel m by the middle tap; voxel 2m + 1 is m by the last and m + 1 by the first.
    parts = weight_COIJK.new_zeros(2, 2, 3)  # which of the two, steps beyond m, tap
    parts[0, 0, 1] = parts[1, 0, 2] = parts[1, 1, 0] = 1
    wide = torch.einsum("coijk,xui,yvj,zwk->ozxycuvw", weight_COIJK, parts, parts, parts)
    product = torch.conv3d(
        image_BCIJK,
        wide.reshape(8 * outputs, channels, 2, 2, 2),
        None if bias_O is None else bias_O.repeat_interleave(8),
        padding=1,
    )[..., 1:, 1:, 1:]
    product = product.reshape(batch, outputs, 2, 2, 2, i, j, k).permute(0, 1, 5, 3, 6, 4, 7, 2)
    return product.reshape(batch, outputs, 2 * i, 2 * j, 2 * k)
