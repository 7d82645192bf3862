"""How well a label map fits its image, where it is and where it might belong.

The measure is the correlation ratio: the share of the variance of the intensities in and around
the structures that the labels explain (Roche et al. 1998, "The correlation ratio as a new
similarity measure for multimodal image registration").

Axes: I J K voxels, canonical (RAS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from medtl.data.io.grids import bounding_box

#: Movements that are tried along each axis, in voxels.
STEPS = (1, 2, 3, 4, 6, 8, 12, 16)

#: How far around the structures intensities are looked at, in voxels.
MARGIN = 4

Labels = NDArray[np.int16]

Images = Sequence[NDArray[np.float32]]


def best_movement(
    values_IJK: Labels, images: Images, own: float
) -> tuple[tuple[int, int, int], float]:
    """The movement of the labels along one axis that fits best, and its gain over none.

    ``own``: :func:`ratio` where they are.
    """
    around = _Around.of(values_IJK)
    best, gain = (0, 0, 0), 0.0
    if around is None:
        return best, gain
    for axis in range(values_IJK.ndim):
        if values_IJK.shape[axis] <= 2 * MARGIN:
            continue
        for step in (sign * step for step in STEPS for sign in (1, -1)):
            if abs(step) >= values_IJK.shape[axis] // 4:
                continue
            moved = [0, 0, 0]
            moved[axis] = step
            better = around.moved(moved).ratio(images) - own
            if better > gain:
                best, gain = (moved[0], moved[1], moved[2]), better
    return best, gain


def best_mirror(values_IJK: Labels, images: Images, own: float) -> tuple[int, float]:
    """The axis along which mirrored labels fit best, and the gain; -1 where none does."""
    best, gain = -1, 0.0
    for axis in range(values_IJK.ndim):
        if values_IJK.shape[axis] > 1:
            better = ratio(np.flip(values_IJK, axis), images) - own
            if better > gain:
                best, gain = axis, better
    return best, gain


def ratio(values_IJK: Labels, images: Images) -> float:
    """The mean correlation ratio of the images in and around the structures, from 0 to 1."""
    around = _Around.of(values_IJK)
    return around.ratio(images) if around else 0.0


@dataclass(frozen=True, slots=True)
class _Around:
    """The voxels in and around the structures: where they are, and their labels.

    Axes: V voxel.
    """

    places_V: tuple[NDArray[np.int64], ...]
    labels_V: Labels

    @classmethod
    def of(cls, values_IJK: Labels) -> _Around | None:
        """None where nothing is labelled."""
        box = bounding_box(values_IJK > 0)
        if box is None:
            return None
        wide = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box)
        near_IJK = binary_dilation(values_IJK[wide] > 0, iterations=MARGIN)
        inner = np.nonzero(near_IJK)
        places = tuple(own + side.start for own, side in zip(inner, wide, strict=True))
        return cls(places, values_IJK[wide][near_IJK])

    def moved(self, steps: Sequence[int]) -> _Around:
        """The same labels elsewhere."""
        places = tuple(own + step for own, step in zip(self.places_V, steps, strict=True))
        return _Around(places, self.labels_V)

    def ratio(self, images: Images) -> float:
        """See :func:`ratio`; voxels outside of the image do not count."""
        shape = images[0].shape
        inside_V = np.ones(len(self.labels_V), bool)
        for own, edge in zip(self.places_V, shape, strict=True):
            inside_V &= (own >= 0) & (own < edge)
        labels_V, places = self.labels_V, self.places_V
        if not inside_V.all():
            labels_V, places = labels_V[inside_V], tuple(own[inside_V] for own in places)
        counts = np.bincount(labels_V)
        there = counts > 0
        scores = []
        for image_IJK in images:
            levels = image_IJK[places].astype(np.float64)
            levels -= levels.mean()
            total = float(np.square(levels).sum())
            sums = np.bincount(labels_V, levels)
            between = float((np.square(sums[there]) / counts[there]).sum())
            scores.append(between / total if total else 0.0)
        return float(np.mean(scores))
