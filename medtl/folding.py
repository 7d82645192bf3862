"""Convolutions with hardly any outputs, computed as ones with several times as many.

The processor computes 16 outputs at once; at the end of a U-Net there are three. Some zeros are
added to the same sums, which takes a quarter less time all the same (`medtl.layout`).

Axes: B batch, C channel in, O channel out, I J K voxels (of the kernel: taps).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: So many neighbours along K become channels.
FOLD = 4
#: More outputs than these fill the processor's vectors by themselves.
MOST = 4
TAPS = (3, 3, 3)
_ONES, _TWOS = (1, 1, 1), (2, 2, 2)


def fits_folded(image_BCIJK: Tensor, weight_OCIJK: Tensor, *settings: Any) -> bool:
    """Whether :func:`folded` is ``conv3d`` with these: stride, padding, dilation and groups."""
    return (
        settings == (_ONES, _ONES, _ONES, 1)
        and weight_OCIJK.shape[2:] == TAPS
        and max(weight_OCIJK.shape[:2]) <= MOST
        and image_BCIJK.ndim == 5
        and image_BCIJK.shape[-1] % FOLD == 0
    )


def fits_shuffled(image_BCIJK: Tensor, weight_COIJK: Tensor, *settings: Any) -> bool:
    """Whether :func:`shuffled` is ``conv_transpose3d`` with these: stride, padding, output padding,
    groups and dilation."""
    return (
        settings == (_TWOS, _ONES, _ONES, 1, _ONES)
        and weight_COIJK.shape[2:] == TAPS
        and weight_COIJK.shape[1] <= MOST
        and image_BCIJK.ndim == 5
    )


def folded(image_BCIJK: Tensor, weight_OCIJK: Tensor, bias_O: Tensor | None) -> Tensor:
    """A convolution of width 3 that keeps the size; ``FOLD`` divides K, the image is
    channels-last, and so is what is returned."""
    batch, channels, i, j, k = image_BCIJK.shape
    outputs = len(weight_OCIJK)
    wide = weight_OCIJK.new_zeros(FOLD, outputs, FOLD, channels, *TAPS)
    for to in range(FOLD):
        for tap in range(3):
            step, source = divmod(to + tap - 1, FOLD)
            wide[to, :, source, :, :, :, 1 + step] = weight_OCIJK[..., tap]
    rows = image_BCIJK.movedim(1, -1).reshape(batch, i, j, k // FOLD, FOLD * channels)
    found = torch.conv3d(
        rows.movedim(-1, 1),
        wide.view(FOLD * outputs, FOLD * channels, *TAPS),
        None if bias_O is None else bias_O.repeat(FOLD),
        padding=1,
    )
    return found.movedim(1, -1).reshape(batch, i, j, k, outputs).movedim(-1, 1)


def shuffled(image_BCIJK: Tensor, weight_COIJK: Tensor, bias_O: Tensor | None) -> Tensor:
    """A transposed convolution of width 3 and stride 2 that doubles the size; channels-first."""
    batch, channels, i, j, k = image_BCIJK.shape
    outputs = weight_COIJK.shape[1]
    # Voxel 2m is voxel m by the middle tap; voxel 2m + 1 is m by the last and m + 1 by the first.
    parts = weight_COIJK.new_zeros(2, 2, 3)  # which of the two, steps beyond m, tap
    parts[0, 0, 1] = parts[1, 0, 2] = parts[1, 1, 0] = 1
    wide = torch.einsum("coijk,xui,yvj,zwk->ozxycuvw", weight_COIJK, parts, parts, parts)
    found = torch.conv3d(
        image_BCIJK,
        wide.reshape(8 * outputs, channels, 2, 2, 2),
        None if bias_O is None else bias_O.repeat_interleave(8),
        padding=1,
    )[..., 1:, 1:, 1:]
    found = found.reshape(batch, outputs, 2, 2, 2, i, j, k).permute(0, 1, 5, 3, 6, 4, 7, 2)
    return found.reshape(batch, outputs, 2 * i, 2 * j, 2 * k)
