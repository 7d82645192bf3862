"""The label map of a case, painted a slab at a time: probabilities of all regions fit no memory.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medtl.data.label_scheme import LabelScheme
from medtl.transforms.native import in_box, native_slabs
from medtl.transforms.preprocess import Placement

#: Which voxels of the prepared box a slab holds.
Place = tuple[slice, slice, slice]

#: Called with every slab's place and logits_LIJK.
Watch = Callable[[Place, Tensor], None]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A label map on the native grid, and what it holds of each region.

    ``moved``: per region, the voxels that were predicted in it and are not, or the reverse.
    """

    label_IJK: NDArray[Any]
    scheme: LabelScheme
    voxels: tuple[int, ...]
    moved: tuple[int, ...]

    def values_of(self, region: str) -> tuple[int, ...]:
        """The label values that stand for a region."""
        own_P = self.scheme.patterns_PL[:, self.scheme.regions.index(region)]
        return tuple(v for v, own in zip(self.scheme.values, own_P, strict=True) if own)


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Some planes of a label map, and the voxels of each region in it (L)."""

    label_IJK: NDArray[Any]
    voxels_L: NDArray[np.int64]
    moved_L: NDArray[np.int64]


def paint(
    chunks: Iterable[Tensor],
    planes: int,
    axis: int,
    placement: Placement,
    scheme: LabelScheme,
    slab_of: Callable[[Tensor, LabelScheme], Slab],
    watch: Watch | None = None,
) -> LabelMap:
    """Paint logits; see :func:`medtl.transforms.native.native_slabs` for how they come.

    Args:
        slab_of: decides what a slab of logits shows.
        watch: called with every slab.
    """
    label_IJK = np.zeros(placement.shape, scheme.dtype)
    box_IJK = in_box(label_IJK, placement)
    voxels_L = moved_L = np.zeros(len(scheme.regions), np.int64)
    for where, logits_LIJK in native_slabs(chunks, planes, axis, placement):
        every = slice(None)
        i, j, k = (where if n == axis else every for n in range(3))
        slab = slab_of(logits_LIJK, scheme)
        box_IJK[i, j, k] = slab.label_IJK
        voxels_L, moved_L = voxels_L + slab.voxels_L, moved_L + slab.moved_L
        if watch is not None:
            watch((i, j, k), logits_LIJK)
    voxels, moved = (tuple(map(int, each)) for each in (voxels_L, moved_L))
    return LabelMap(label_IJK, scheme, voxels, moved)
