"""Running a network over whole volumes in overlapping windows.

Axes: B window of a batch, C modality, L output channel, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from medtl.data.io.grids import bounding_box
from medtl.networks.blocks import per_axis, rounded_up
from medtl.networks.cpu.channels_last import ChannelsLast

Forward = Callable[[Tensor], Tensor]


Window = tuple[slice, ...]


#: Logit where nothing was computed, as the image shows nothing there: certainly background.
OUTSIDE = -20.0


_SIGMA = 0.125  # of the window's edge, as in MONAI and nnU-Net


_SMALLEST_WEIGHT = 1e-3


#: Of nnU-Net's weights, which are half precision and 10 at the centre.
_SMALLEST_HALF = 6e-9


@torch.inference_mode()
def sliding_window(
    forward: Forward,
    image_CIJK: Tensor,
    roi: tuple[int, int, int],
    *,
    out_channels: int,
    overlap: float = 0.5,
    batch_size: int = 1,
    autocast: torch.dtype | None = None,
    crop: bool = False,
    shown_IJK: Tensor | None = None,
    pass_voxels: int = 0,
    multiple: int | Sequence[int] = 1,
    nnunet: bool = False,
) -> Tensor:
    """Average the logits of overlapping windows, weighted by a Gaussian around each one's centre.

    Placement, weights and zero padding of small volumes equal MONAI's
    ``sliding_window_inference(mode="gaussian")`` as long as ``crop`` and ``pass_voxels`` are off.

    Args:
        forward: ``batch_BCIJK`` to ``logits_BLIJK`` of the same grid; the network is in eval mode.
        image_CIJK: on the device to compute on; background is 0, and so is the padding.
        roi: size of a window in voxels.
        overlap: share of a window that the next one covers again, 0 <= overlap < 1.
        batch_size: windows per call of ``forward``.
        autocast: run ``forward`` in this precision; the sum over windows is float32 in any case.
        crop: compute only in the box around what is not background, and in it only windows that
            hold some; elsewhere the logits are :data:`OUTSIDE`.
        shown_IJK: foreground for cropping; default: where the image is not 0.
        pass_voxels: a volume of at most this many voxels, padding included, runs in one pass. It
            is padded to ``multiple`` (one number, or one per axis), and to the window.
        nnunet: windows at equal steps, their weights centred on a voxel, as nnU-Net has them.

    Returns:
        logits_LIJK, float32, on the device of the image.
    """
    whole: Window = tuple(slice(0, length) for length in image_CIJK.shape[1:])
    if crop and shown_IJK is None:
        shown_IJK = shown(image_CIJK)
    box = whole if shown_IJK is None else bounding_box(shown_IJK)
    if box is None:
        return image_CIJK.new_full((out_channels, *image_CIJK.shape[1:]), OUTSIDE)
    single = _single(box, roi, multiple)
    if math.prod(single) <= pass_voxels:
        roi = single
    padded_CIJK, inner = _pad_to(image_CIJK[(slice(None), *box)], roi)
    windows = _windows(padded_CIJK.shape[1:], roi, overlap, even=nnunet)
    if shown_IJK is not None:
        padded_1IJK, _ = _pad_to(shown_IJK[box][None], roi)
        windows = [window for window in windows if _any(padded_1IJK[0][window])]
    weight_IJK = _importance(roi, image_CIJK.device, on_voxel=nnunet)
    padded_LIJK = _average(
        forward, padded_CIJK, windows, weight_IJK, out_channels, batch_size, autocast
    )
    found_LIJK = padded_LIJK[(slice(None), *inner)]
    if box == whole:
        return found_LIJK.contiguous()
    logits_LIJK = image_CIJK.new_full((out_channels, *image_CIJK.shape[1:]), OUTSIDE)
    logits_LIJK[(slice(None), *box)] = found_LIJK
    return logits_LIJK


def _single(
    box: Window, roi: tuple[int, int, int], multiple: int | Sequence[int]
) -> tuple[int, int, int]:
    """The window that holds the whole box.

    No edge is shorter than in training: norms see as large a share of background then.
    """
    i, j, k = (
        max(rounded_up(side.stop - side.start, step), edge)
        for side, edge, step in zip(box, roi, per_axis(multiple, 3), strict=True)
    )
    return i, j, k


def _average(
    forward: Forward,
    image_CIJK: Tensor,
    windows: Sequence[Window],
    weight_IJK: Tensor,
    out_channels: int,
    batch_size: int,
    autocast: torch.dtype | None,
) -> Tensor:
    """The weighted average of the windows' logits (LIJK); OUTSIDE where there is no window."""
    device, roi = image_CIJK.device, weight_IJK.shape
    image_1CIJK = image_CIJK[None]
    last = autocast is torch.bfloat16 and device.type == "cpu" and roi[-1] > 1
    if autocast is not None:  # once, not for each window and layer that reads it
        layout = torch.channels_last_3d if last else torch.contiguous_format
        image_1CIJK = image_1CIJK.to(autocast, memory_format=layout)

    def logits_of(batch: Sequence[Window]) -> Tensor:
        parts = [image_1CIJK[(slice(None), slice(None), *window)] for window in batch]
        return forward(torch.cat(parts))

    with ExitStack() as settings:  # for all windows, as the weights are then converted once
        settings.enter_context(
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None)
        )
        if last:
            settings.enter_context(ChannelsLast())
        if len(windows) == 1 and roi == image_CIJK.shape[1:]:
            return logits_of(windows)[0].float()
        logits_LIJK = torch.zeros((out_channels, *image_CIJK.shape[1:]), device=device)
        total_IJK = torch.zeros(image_CIJK.shape[1:], device=device)
        for first in range(0, len(windows), batch_size):
            batch = windows[first : first + batch_size]
            for window, output_LIJK in zip(batch, logits_of(batch), strict=True):
                for sum_IJK, output_IJK in zip(logits_LIJK, output_LIJK, strict=True):
                    sum_IJK[window].addcmul_(output_IJK.float(), weight_IJK)
                total_IJK[window] += weight_IJK
    logits_LIJK /= total_IJK
    missed_IJK = total_IJK == 0
    return logits_LIJK.masked_fill_(missed_IJK, OUTSIDE) if missed_IJK.any() else logits_LIJK


def shown(image_CIJK: Tensor) -> Tensor:
    """Where any channel is not 0 (IJK)."""
    shown_IJK = image_CIJK[0] != 0
    for channel_IJK in image_CIJK[1:]:
        shown_IJK |= channel_IJK != 0
    return shown_IJK


def _any(shown_IJK: Tensor) -> bool:
    """Looks at a few voxels first, which mostly do."""
    return bool(shown_IJK[::8, ::8, ::8].any()) or bool(shown_IJK.any())


def slice_wise(
    forward: Forward,
    image_CIJK: Tensor,
    *,
    out_channels: int,
    roi: tuple[int, int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 16,
    autocast: torch.dtype | None = None,
    multiple: int | Sequence[int] = 1,
) -> Tensor:
    """Run a 2-D network over the slices along the last axis; see :func:`sliding_window`.

    Without ``roi`` each slice runs whole, padded to ``multiple``. ``forward`` takes
    ``batch_BCIJ`` and returns ``logits_BLIJ``; ``batch_size`` counts slices.
    """
    _, *size, _ = image_CIJK.shape
    steps = per_axis(multiple, 2)
    edges = roi or [rounded_up(n, step) for n, step in zip(size, steps, strict=True)]
    i, j = edges
    return sliding_window(
        lambda batch_BCIJK: forward(batch_BCIJK[..., 0])[..., None],
        image_CIJK,
        (i, j, 1),
        out_channels=out_channels,
        overlap=overlap,
        batch_size=batch_size,
        autocast=autocast,
    )


def _pad_to(image_CIJK: Tensor, roi: Sequence[int]) -> tuple[Tensor, Window]:
    """Pad with zeros, half on each side, up to ``roi``; the window is where the image now lies."""
    missing = [max(edge - size, 0) for edge, size in zip(roi, image_CIJK.shape[1:], strict=True)]
    before = [amount // 2 for amount in missing]
    inner = tuple(
        slice(start, start + size) for start, size in zip(before, image_CIJK.shape[1:], strict=True)
    )
    if not any(missing):
        return image_CIJK, inner
    margins = [
        margin
        for start, amount in zip(reversed(before), reversed(missing), strict=True)
        for margin in (start, amount - start)
    ]
    return pad(image_CIJK, margins), inner


def _windows(
    size: Sequence[int], roi: Sequence[int], overlap: float, *, even: bool = False
) -> list[Window]:
    """Windows at a constant step, the last one of each axis moved back to end with the volume; or
    as few at ``even`` steps."""
    starts = []
    for length, edge in zip(size, roi, strict=True):
        if even:
            count = math.ceil((length - edge) / (edge * (1 - overlap))) + 1
            step = (length - edge) / max(1, count - 1)
            starts.append([round(index * step) for index in range(count)])
            continue
        step = max(int(edge * (1 - overlap)), 1)
        count = -(-(length - edge) // step) + 1
        starts.append([min(index * step, length - edge) for index in range(count)])
    return [
        tuple(slice(start, start + edge) for start, edge in zip(corner, roi, strict=True))
        for corner in product(*starts)
    ]


def _importance(roi: Sequence[int], device: torch.device, *, on_voxel: bool = False) -> Tensor:
    """Gaussian weights of one window, never so small that a corner seen once loses precision.

    Args:
        on_voxel: the centre is that of a voxel, also where the edge is even.
    """
    weight = torch.ones((), device=device)
    for edge in roi:
        offset = torch.arange(edge, device=device) - (edge // 2 if on_voxel else (edge - 1) / 2)
        line = torch.exp(offset.square() / (-2 * (_SIGMA * edge) ** 2))
        weight = weight[..., None] * line
    least = _SMALLEST_HALF if on_voxel else _SMALLEST_WEIGHT
    return weight.clamp(min=max(float(weight.min()), least))
