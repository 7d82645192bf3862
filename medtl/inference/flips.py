"""Test-time flips: the mean over all mirrorings of a window.

Axes: B window of a batch, C modality, L output channel, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from medtl.inference.sliding_window import Forward


def orientations(mirrored: Sequence[int]) -> list[tuple[int, ...]]:
    """The axes of a batch that each orientation mirrors: none, each one, each pair, all.

    Args:
        mirrored: spatial axes that may be mirrored, counted from 0.
    """
    axes = [2 + axis for axis in mirrored]
    return [which for count in range(len(axes) + 1) for which in combinations(axes, count)]


def flipped(forward: Forward, mirrored: Sequence[int]) -> Forward:
    """``forward`` with the logits of each window averaged over all its mirrorings, as in nnU-Net
    (Isensee et al. 2021): 8 of three axes, 4 of two.

    A window that comes alone runs in two orientations at once: on the CPU that takes a third to
    nine tenths of the time of one after the other, and more at once are no faster. Windows that
    come in batches run one orientation after the other.
    """
    turns = orientations(mirrored)

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
