"""The logits of whole volumes, plane by plane: large volumes with many regions fit no memory.

Axes: C modality, L output channel, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from medtl.inference.sliding_window import OUTSIDE, Forward, Runner
from medtl.inference.windows import SMALLEST_WEIGHT, Layout, Window, box_of, shown

#: Planes that :func:`sliding_planes` gives at once have about this many logits.
CHUNK = 1 << 22


@torch.inference_mode()
def sliding_planes(
    forward: Forward,
    image_CIJK: Tensor,
    roi: tuple[int, int, int],
    axis: int,
    *,
    out_channels: int,
    overlap: float = 0.5,
    batch_size: int = 1,
    autocast: torch.dtype | None = None,
    crop: bool = False,
    shown_IJK: Tensor | None = None,
    nnunet: bool = False,
) -> Iterator[Tensor]:
    """The logits of :func:`sliding_window`, a few planes along ``axis`` (0 to 2) after the other.

    Memory holds the sums of as many planes as a window has along ``axis``, in half precision, or,
    for the weights of ``nnunet``, in single.

    Yields:
        consecutive logits_LIJK, float32, with all voxels of the other two axes.
    """
    if crop and shown_IJK is None:
        shown_IJK = shown(image_CIJK)
    box = box_of(image_CIJK, shown_IJK)
    size = list(image_CIJK.shape[1:])
    step = max(1, CHUNK // (out_channels * (math.prod(size) // size[axis])))

    def empty(planes: int) -> Tensor:
        edges = [planes if n == axis else edge for n, edge in enumerate(size)]
        return image_CIJK.new_full((out_channels, *edges), OUTSIDE)

    def outside(start: int, stop: int) -> Iterator[Tensor]:
        for first in range(start, stop, step):
            yield empty(min(step, stop - first))

    if box is None:
        yield from outside(0, size[axis])
        return
    layout = Layout.of(image_CIJK, shown_IJK, box, roi, overlap, nnunet=nnunet)
    runner = Runner.of(forward, layout, autocast)
    within = [slice(None), *box]
    within[1 + axis] = slice(None)
    yield from outside(0, box[axis].start)
    for found_LIJK in _finished(runner, layout, axis, out_channels, batch_size, step):
        planes_LIJK = empty(found_LIJK.shape[1 + axis])
        planes_LIJK[tuple(within)] = found_LIJK
        yield planes_LIJK
    yield from outside(box[axis].stop, size[axis])


def _finished(
    runner: Runner, layout: Layout, axis: int, out_channels: int, batch_size: int, step: int
) -> Iterator[Tensor]:
    """The weighted average of the windows in the box, at most ``step`` planes at once.

    Windows are computed in the order of their first plane. What lies before the first plane of all
    that are left is finished.
    """
    weight_IJK = layout.weight_IJK
    edge, size = weight_IJK.shape[axis], list(layout.image_CIJK.shape[1:])
    groups = _groups(layout.windows, axis, batch_size)
    across = [slice(None), *layout.inner]
    across[1 + axis] = slice(None)
    starts = [0, *(group[0][axis].start for group in groups[1:])]
    ends = [*starts[1:], layout.image_CIJK.shape[1 + axis]]
    planes = max(group[-1][axis].stop - start for group, start in zip(groups, starts, strict=True))
    del size[axis]  # planes come first, so that the values of a plane lie together
    small = float(weight_IJK.min()) < SMALLEST_WEIGHT  # nnU-Net's vanish in half precision
    kind = torch.float if small else torch.half
    sums_KLIJ = weight_IJK.new_zeros((planes, out_channels, *size), dtype=kind)
    total_KIJ = weight_IJK.new_zeros((planes, *size))
    weight_KIJ = weight_IJK.movedim(axis, 0)
    for group, start, stop in zip(groups, starts, ends, strict=True):
        with runner.ready():
            for first in range(0, len(group), batch_size):
                batch = group[first : first + batch_size]
                for window, output_LIJK in zip(batch, runner.logits(batch), strict=True):
                    plane = window[axis].start - start
                    place = (
                        slice(plane, plane + edge),
                        *(side for n, side in enumerate(window) if n != axis),
                    )
                    for region, output_IJK in enumerate(output_LIJK):
                        added_KIJ = output_IJK.float().movedim(axis, 0) * weight_KIJ
                        sums_KLIJ[:, region][place] += added_KIJ
                    total_KIJ[place] += weight_KIJ
        ready = range(
            max(start, layout.inner[axis].start), min(stop, layout.inner[axis].stop), step
        )
        for first in ready:
            last = min(first + step, ready.stop)
            total_K1IJ = total_KIJ[first - start : last - start, None]
            logits_KLIJ = sums_KLIJ[first - start : last - start].float() / total_K1IJ
            logits_KLIJ.masked_fill_(total_K1IJ == 0, OUTSIDE)
            yield logits_KLIJ.movedim(0, 1 + axis)[tuple(across)]
            if between := last - first - len(total_K1IJ):  # no window shows these planes
                edges = (between, out_channels, *size)
                empty_KLIJ = logits_KLIJ.new_full(edges, OUTSIDE)
                yield empty_KLIJ.movedim(0, 1 + axis)[tuple(across)]
        for held in (sums_KLIJ, total_KIJ):
            _shift(held, stop - start)


def _groups(windows: Sequence[Window], axis: int, batch_size: int) -> list[list[Window]]:
    """The windows by their first plane along ``axis``; planes of too few for a batch together."""
    order = sorted(windows, key=lambda window: window[axis].start)
    groups: list[list[Window]] = []
    for _, front in groupby(order, key=lambda window: window[axis].start):
        if groups and len(groups[-1]) < batch_size:
            groups[-1] += front
        else:
            groups.append(list(front))
    return groups


def _shift(planes: Tensor, count: int) -> None:
    """Move all planes forward by ``count``; zeros follow."""
    kept = max(0, len(planes) - count)
    for plane in range(kept):
        planes[plane].copy_(planes[plane + count])
    planes[kept:] = 0
