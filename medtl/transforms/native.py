"""What a network puts out on the prepared grid, back on the native one, a few planes at once.

Axes: L region, I J K voxels (right-anterior-superior), P planes along one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medtl.data.io.geometry import orient
from medtl.data.io.grids import nearest_slices
from medtl.transforms.preprocess import Placement

#: Slabs have about this many values, so that few are held at once.
SLAB = 1 << 22


def to_native(logits_LIJK: Tensor, placement: Placement, fill: float) -> Tensor:
    """Logits on the prepared grid -> the native grid; voxels outside the brain box get ``fill``.

    The result is in float32, on the CPU.
    """
    native_LIJK = torch.full((len(logits_LIJK), *placement.shape), fill)
    box_LIJK = in_box(native_LIJK.numpy(), placement)
    for planes, slab_LIJK in native_slabs([logits_LIJK.cpu()], logits_LIJK.shape[1], 0, placement):
        box_LIJK[:, planes] = slab_LIJK.numpy()
    return native_LIJK


def in_box(native_xIJK: NDArray[Any], placement: Placement) -> NDArray[Any]:
    """A view of the part of a native array that was prepared, its axes as there."""
    box: Any = (slice(a, a + n) for a, n in zip(placement.start, placement.size, strict=True))
    return orient(native_xIJK, placement.axes, placement.flips)[(..., *box)]


def native_slabs(
    chunks: Iterable[Tensor], planes: int, axis: int, placement: Placement
) -> Iterator[tuple[slice, Tensor]]:
    """Slabs of the prepared box on the native grid, its axes as prepared.

    The interpolation is linear along each axis; along thick slices, the nearest one is taken.

    Args:
        chunks: consecutive logits_LIJK with some planes along ``axis`` (0 to 2).
        planes: of the prepared grid along ``axis``.

    Yields:
        which planes of the box along ``axis``, and their logits_LIJK.
    """
    new = placement.size[axis]
    low, high, share = _sources(planes, new, nearest=placement.slices == axis)
    held_LPIJ, first, done = torch.empty(0), 0, 0
    for chunk_LIJK in chunks:
        within = math.prod(placement.size) // new
        step = max(1, SLAB * planes // (max(planes, new) * within * len(chunk_LIJK)))
        for part_LIJK in torch.split(chunk_LIJK, step, 1 + axis):
            part_LPIJ = _within_planes(part_LIJK, axis, placement)
            held_LPIJ = torch.cat((held_LPIJ, part_LPIJ), 1) if held_LPIJ.numel() else part_LPIJ
            end = int(np.searchsorted(high, first + held_LPIJ.shape[1]))
            if end == done:
                continue
            blended = bool(share[done:end].any())
            if not blended and (np.diff(low[done:end]) == 1).all():
                slab_LPIJ = held_LPIJ.narrow(1, int(low[done]) - first, end - done)
            else:
                slab_LPIJ = held_LPIJ.index_select(1, torch.from_numpy(low[done:end] - first))
            if blended:
                above_LPIJ = held_LPIJ.index_select(1, torch.from_numpy(high[done:end] - first))
                weight_P11 = torch.from_numpy(share[done:end, None, None]).to(slab_LPIJ.dtype)
                slab_LPIJ.lerp_(above_LPIJ, weight_P11)
            yield slice(done, end), slab_LPIJ.movedim(1, 1 + axis)
            done = end
            passed = min(int(low[min(done, new - 1)]) - first, held_LPIJ.shape[1])
            held_LPIJ, first = held_LPIJ[:, passed:], first + passed


def _sources(
    old: int, new: int, *, nearest: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each new plane the old ones on both sides of it, and the share of the second."""
    if nearest:
        planes = np.array(nearest_slices(old, new))
        return planes, planes, np.zeros(new, np.float32)
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    return low, high, (places - low).astype(np.float32)


def _within_planes(part_LIJK: Tensor, axis: int, placement: Placement) -> Tensor:
    """Planes along ``axis`` (LPIJ), on the native grid within each of them."""
    part_LPIJ = part_LIJK.movedim(1 + axis, 1)
    part_LPIJ = part_LPIJ.to(torch.promote_types(part_LPIJ.dtype, torch.float32))
    axes = [n for n in range(3) if n != axis]
    wanted = [placement.size[n] for n in axes]
    thick = axes.index(placement.slices) if placement.slices in axes else None
    size = [part_LPIJ.shape[2 + n] if n == thick else wanted[n] for n in range(2)]
    if size != list(part_LPIJ.shape[2:]):
        part_LPIJ = functional.interpolate(
            part_LPIJ, size=size, mode="bilinear", align_corners=False
        )
    if thick is not None and size[thick] != wanted[thick]:
        nearest = nearest_slices(size[thick], wanted[thick])
        part_LPIJ = part_LPIJ.index_select(2 + thick, torch.tensor(nearest))
    return part_LPIJ
