"""The foreground of an image, cut out once for all features.

Axes: I J K voxels (right-anterior-superior), N value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import bounding_box
from medtl.data.subset import stride
from medtl.shift.contract import FeatureRows, View
from medtl.transforms.histogram import CLIP_PERCENTILES, quantiles

#: Lengths in a picture are in 256ths of its longest edge, since its millimetres are unknown.
NOMINAL_EDGE = 256

#: More values are thinned out evenly, which hardly changes percentiles.
MOST_VALUES = 2_000_000


@dataclass(frozen=True, slots=True)
class Foreground:
    """The box around the foreground of one modality.

    ``scaled_IJK``: its image minus the median, in units of the spread. ``values_N``: the original
    values of the foreground, sorted.
    """

    scaled_IJK: NDArray[np.float32]
    foreground_IJK: NDArray[np.bool_]
    step: tuple[float, float, float]  #: edges of a voxel, mm (pictures: see NOMINAL_EDGE)
    values_N: NDArray[np.float32]
    median: float
    spread: float  #: mean distance from the median, clipped; 0 if 99% of the values are equal

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scaled_IJK.shape

    def scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (values - self.median) / (self.spread or 1.0)


def crop_foreground(view: View) -> Foreground:
    """The foreground of a view of one modality."""
    image_IJK, foreground_IJK = view.image_CIJK[0], foreground_mask(view)
    box = bounding_box(foreground_IJK) or ...
    return measure_foreground(image_IJK[box], foreground_IJK[box], voxel_step(view))


def foreground_mask(view: View) -> NDArray[np.bool_]:
    """The mask of a view of one modality (IJK); all of the image if it is empty."""
    foreground_IJK = view.foreground_CIJK[0]
    return foreground_IJK if foreground_IJK.any() else np.ones_like(foreground_IJK)


def voxel_step(view: View) -> tuple[float, float, float]:
    """The edges of a voxel in mm; of pictures in 256ths of the longest edge."""
    if not view.is_2d:
        return view.spacing_mm
    pixel = NOMINAL_EDGE / max(view.image_CIJK.shape[1:])
    return pixel, pixel, pixel


def measure_foreground(
    image_IJK: NDArray[np.float32],
    foreground_IJK: NDArray[np.bool_],
    step: tuple[float, float, float],
) -> Foreground:
    """Scale a box; ``foreground_IJK`` is not empty."""
    foreground_IJK = np.ascontiguousarray(foreground_IJK)
    values_N = image_IJK[foreground_IJK]
    values_N = np.sort(values_N[:: stride(len(values_N), MOST_VALUES)])
    low, median, high = quantiles(values_N, (CLIP_PERCENTILES[0], 50, CLIP_PERCENTILES[1]))
    clipped_N = np.clip(values_N, low, high)
    spread = float(np.abs(clipped_N - np.float32(median)).mean(dtype=np.float64))
    scaled_IJK = np.subtract(image_IJK, np.float32(median), order="C")
    scaled_IJK /= np.float32(spread or 1.0)
    return Foreground(scaled_IJK, foreground_IJK, step, values_N, float(median), spread)


def one_row(columns: Mapping[str, float]) -> FeatureRows:
    """A single row from its named values."""
    return FeatureRows(np.array([list(columns.values())], dtype=np.float64), tuple(columns))
