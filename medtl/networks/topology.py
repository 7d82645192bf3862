"""Strides and kernels of a U-Net per axis, planned from spacing and patch.

The rules are those of Isensee et al. 2021: an axis whose voxels are twice as long as the others' is
neither pooled nor convolved over until the others have caught up. An axis of very few voxels is
never convolved over: then the network is two-dimensional and sees slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medtl.networks.blocks import rounded_up

#: Least edge of the deepest level's map, and of an axis that is convolved over.
LEAST_EDGE = 4

#: The least edge that is halved where no other axis is.
LEAST_ALONE = 3 * LEAST_EDGE

#: Voxels this many times as long as the shortest are not pooled over yet.
APART = 2.0

#: Levels of a published U-Net, at most: 2**5 voxels of a patch are one of the deepest level.
MOST_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Topology:
    """Strides and kernels per level and axis; the first level has the image's resolution."""

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, strides: Any, kernels: Any) -> Topology:
        """From what :meth:`options` gives."""
        return cls(tuple(map(tuple, strides)), tuple(map(tuple, kernels)))

    @property
    def multiples(self) -> tuple[int, ...]:
        """What the patch's edges must be multiples of, per axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    def options(self) -> dict[str, Any]:
        """As the options of a network, plain data."""
        return {
            "strides": [list(each) for each in self.strides],
            "kernels": [list(each) for each in self.kernels],
        }

    def describe(self) -> str:
        """The levels in a sentence."""
        flat = [n for n, kernel in enumerate(self.kernels, 1) if 1 in kernel]
        text = f"{len(self.strides)} levels, {'x'.join(map(str, self.multiples))} voxels to one"
        if len(flat) == len(self.kernels):
            text += f"; 2-D, as patches have under {LEAST_EDGE} slices"
        elif flat:
            first = "x".join(map(str, self.kernels[0]))
            text += f"; {first} kernels in {len(flat)} of them"
        return text


def plan_topology(
    spacing_mm: Sequence[float], patch: Sequence[int], most_levels: int = MOST_LEVELS
) -> Topology:
    """The levels, two or more, for patches of about ``patch`` voxels of ``spacing_mm``."""
    sizes, edges_mm = list(map(float, patch)), list(map(float, spacing_mm))
    longest = sizes.index(max(sizes))
    sizes[longest] = max(sizes[longest], LEAST_ALONE)
    deepest = tuple(3 if size >= LEAST_EDGE else 1 for size in sizes)
    kernel = [1] * len(sizes)
    strides, kernels = [(1,) * len(sizes)], []
    while len(strides) < most_levels:
        pooled = _pooled(sizes, edges_mm)
        kernel = _kernel(kernel, edges_mm)
        if not pooled:
            break
        kernels.append(tuple(map(min, kernel, deepest)))
        strides.append(tuple(2 if axis in pooled else 1 for axis in range(len(sizes))))
        for axis in pooled:
            sizes[axis] = math.ceil(sizes[axis] / 2)
            edges_mm[axis] *= 2
    kernels.append(deepest)
    return Topology(tuple(strides), tuple(kernels))


def _pooled(sizes: Sequence[float], edges_mm: Sequence[float]) -> list[int]:
    """The axes to halve next; none at the deepest level."""
    large = [axis for axis, size in enumerate(sizes) if size >= 2 * LEAST_EDGE]
    finest_mm = min((edges_mm[axis] for axis in large), default=0.0)
    axes = [axis for axis in large if edges_mm[axis] < APART * finest_mm]
    if len(axes) == 1 and sizes[axes[0]] < LEAST_ALONE:
        return []
    return axes


def _kernel(before: Sequence[int], edges_mm: Sequence[float]) -> list[int]:
    """3 where voxels are about as long as the shortest, or where the level above has it; else 1."""
    finest_mm = min(edges_mm)
    return [
        3 if known == 3 or mm < APART * finest_mm else 1
        for known, mm in zip(before, edges_mm, strict=True)
    ]


def fit_patch(patch: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    """The patch with every edge rounded up to a multiple."""
    return tuple(
        rounded_up(max(1, edge), multiple) for edge, multiple in zip(patch, multiples, strict=True)
    )
