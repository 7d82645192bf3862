"""The windows of a volume: where they lie, and what each of their voxels weighs.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from medtl.data.io.grids import Box, bounding_box
from medtl.networks.blocks import per_axis, rounded_up

Window = tuple[slice, ...]


_SIGMA = 0.125  # of the window's edge, as in MONAI and nnU-Net


SMALLEST_WEIGHT = 1e-3


#: Of nnU-Net's weights, which are half precision and 10 at the centre.
_SMALLEST_HALF = 6e-9


@dataclass(frozen=True, slots=True)
class Layout:
    """The windows of an image, and their weights."""

    image_CIJK: Tensor  #: the box, padded
    inner: Window  #: where the box lies in it
    windows: Sequence[Window]
    weight_IJK: Tensor

    @classmethod
    def of(
        cls,
        image_CIJK: Tensor,
        shown_IJK: Tensor | None,
        box: Box,
        roi: tuple[int, int, int],
        overlap: float,
        *,
        nnunet: bool,
    ) -> Layout:
        padded_CIJK, inner = _pad_to(image_CIJK[(slice(None), *box)], roi)
        windows = _windows(padded_CIJK.shape[1:], roi, overlap, even=nnunet)
        if shown_IJK is not None:
            padded_1IJK, _ = _pad_to(shown_IJK[box][None], roi)
            windows = [window for window in windows if _any(padded_1IJK[0][window])]
        weight_IJK = importance(roi, image_CIJK.device, on_voxel=nnunet)
        return cls(padded_CIJK, inner, windows, weight_IJK)


def box_of(image_CIJK: Tensor, shown_IJK: Tensor | None) -> Box | None:
    """What is computed: the whole image, or the box around what it shows; None: nothing."""
    if shown_IJK is None:
        return tuple(slice(0, length) for length in image_CIJK.shape[1:])
    return bounding_box(shown_IJK)


def single_window(
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


def shown(image_CIJK: Tensor) -> Tensor:
    """Where any channel is not 0 (IJK)."""
    shown_IJK = image_CIJK[0] != 0
    for channel_IJK in image_CIJK[1:]:
        shown_IJK |= channel_IJK != 0
    return shown_IJK


def _any(shown_IJK: Tensor) -> bool:
    """Looks at a few voxels first, which mostly do."""
    return bool(shown_IJK[::8, ::8, ::8].any()) or bool(shown_IJK.any())


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


def importance(roi: Sequence[int], device: torch.device, *, on_voxel: bool = False) -> Tensor:
    """Gaussian weights of one window, never so small that a corner seen once loses precision.

    Args:
        on_voxel: the centre is that of a voxel, also where the edge is even.
    """
    weight = torch.ones((), device=device)
    for edge in roi:
        offset = torch.arange(edge, device=device) - (edge // 2 if on_voxel else (edge - 1) / 2)
        line = torch.exp(offset.square() / (-2 * (_SIGMA * edge) ** 2))
        weight = weight[..., None] * line
    least = _SMALLEST_HALF if on_voxel else SMALLEST_WEIGHT
    return weight.clamp(min=max(float(weight.min()), least))
