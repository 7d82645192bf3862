"""Test-time flips: the mean over all mirrorings of a window.

Axes: B window of a batch, C modality, L output channel, then the spatial axes.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from medtl.inference.sliding_window import Forward


def orientations(spatial_dims: int) -> list[tuple[int, ...]]:
    """The axes of a batch that each orientation mirrors: none, each one, each pair, all."""
    axes = range(2, 2 + spatial_dims)
    return [which for count in range(spatial_dims + 1) for which in combinations(axes, count)]


def flipped(forward: Forward, spatial_dims: int) -> Forward:
    """``forward`` with the logits of each window averaged over all its mirrorings, as in nnU-Net
    (Isensee et al. 2021): 8 in 3-D, 4 in 2-D.

    A window that comes alone runs in two orientations at once: on the CPU that takes a third to
    nine tenths of the time of one after the other, and more at once are no faster. Windows that
    come in batches run one orientation after the other.
    """
    turns = orientations(spatial_dims)

    def mean_over_orientations(batch: Tensor) -> Tensor:
        together = 2 if len(batch) == 1 else 1
        total = torch.zeros(())
        for first in range(0, len(turns), together):
            some = turns[first : first + together]
            logits = forward(torch.cat([batch.flip(axes) for axes in some])).float()
            for part, axes in zip(logits.chunk(len(some)), some, strict=True):
                total = total + part.flip(axes)
        return total / len(turns)

    return mean_over_orientations
