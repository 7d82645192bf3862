"""Histogram standards: map each image's percentiles to standard values.

Axes: I J K voxels, N value, P percentile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError

Image = NDArray[np.float32]


Mask = NDArray[np.bool_]


#: Intensities beyond these percentiles of the brain are clipped before the z-score.
CLIP_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The percentiles to map. The histogram standard is their mean over images.

    ``ends``: values to which the first and last percentile of each image are scaled before the
    mean, so that images on large scales do not dominate.
    """

    percentiles: tuple[float, ...]
    ends: tuple[float, float] | None = None

    def measure(self, image_IJK: Image, shown_IJK: Mask) -> list[float]:
        """The image's values at the percentiles of its foreground; all 0 if it has none."""
        sorted_N = np.sort(image_IJK[shown_IJK])
        if not len(sorted_N):
            return [0.0] * len(self.percentiles)
        return [float(value) for value in quantiles(sorted_N, self.percentiles)]

    def standard(self, measured: Iterable[Sequence[float]], what: str) -> tuple[float, ...]:
        """The mean of the images' values. Raises DataError with ``what`` if all are constant."""
        rows_P = [np.asarray(row) for row in measured if row[0] < row[-1]]
        if not rows_P:
            raise DataError(f"{what}: no image whose intensities vary; leave harmonise out")
        if self.ends is not None:
            rows_P = [np.interp(row_P, row_P[[0, -1]], self.ends) for row_P in rows_P]
        ascending_P = np.maximum.accumulate(np.mean(rows_P, axis=0))  # ascending but for rounding
        return tuple(float(value) for value in ascending_P)


#: Deciles between the 1st and 99th percentile (Nyul and Udupa 1999; landmarks of Shah et al. 2011).
NYUL = Landmarks((1, *range(10, 100, 10), 99), ends=(0.0, 100.0))


#: The whole quantile function. The mean of several is a plausible histogram; that of all voxels
#: together is not if scales differ.
HISTOGRAM = Landmarks(tuple(n / 2 for n in range(201)))


@dataclass(frozen=True, slots=True)
class Standard:
    """A fitted histogram standard: values at the percentiles by modality, as plain data."""

    name: str
    percentiles: tuple[float, ...]
    values: tuple[tuple[str, tuple[float, ...]], ...]

    def apply(self, modality: str, image_IJK: Image, shown_IJK: Mask) -> Image:
        """Map an image to the standard; one without foreground is unchanged.

        Raises:
            DataError: the standard was not fitted on this modality.
        """
        values = dict(self.values)
        if modality not in values:
            raise DataError(
                f"{self.name} was not fitted on {modality}; it knows {', '.join(values)}"
            )
        if not shown_IJK.any():
            return image_IJK
        own = Landmarks(self.percentiles).measure(image_IJK, shown_IJK)
        return moved(image_IJK, own, values[modality])

    def to_json(self) -> dict[str, Any]:
        values = {name: list(numbers) for name, numbers in self.values}
        return {"name": self.name, "percentiles": list(self.percentiles), "values": values}

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> Standard:
        """Raises LookupError, TypeError or ValueError for data that are not from ``to_json``."""
        rows, percentiles = recorded["values"], _numbers(recorded["percentiles"])
        if not isinstance(rows, Mapping) or not rows:
            raise ValueError("a standard without values by modality")
        rising = all(a < b for a, b in pairwise(percentiles))
        if len(percentiles) < 2 or not rising or percentiles[0] < 0 or percentiles[-1] > 100:
            raise ValueError("the percentiles of a standard must rise, from 0 at least to 100")
        values = tuple((str(name), _numbers(row)) for name, row in rows.items())
        for name, row in values:
            if len(row) != len(percentiles):
                raise ValueError(f"the standard of {name} needs one value per percentile")
            if any(a > b for a, b in pairwise(row)):
                raise ValueError(f"the standard of {name} descends")
        return cls(str(recorded["name"]), percentiles, values)


def moved(image_IJK: Image, own: Sequence[float], standard: Sequence[float]) -> Image:
    """Map ``own`` values to the ``standard``'s, piecewise linearly and with linear extrapolation.

    If several of ``own`` are equal, the mean of their standard values counts.
    """
    knots, groups = np.unique(np.asarray(own, dtype=np.float64), return_inverse=True)
    wanted = np.bincount(groups, standard) / np.bincount(groups)
    if len(knots) == 1:
        return np.asarray(image_IJK + np.float32(wanted[0] - knots[0]))
    moved_IJK = np.interp(image_IJK, knots, wanted).astype(np.float32)
    for end, inner, beyond_IJK in (
        (0, 1, image_IJK < knots[0]),
        (-1, -2, image_IJK > knots[-1]),
    ):
        slope = (wanted[end] - wanted[inner]) / (knots[end] - knots[inner])
        moved_IJK[beyond_IJK] = wanted[end] + slope * (image_IJK[beyond_IJK] - knots[end])
    return moved_IJK


def quantiles(sorted_N: Image, percentiles: Sequence[float]) -> NDArray[np.float64]:
    """NumPy's percentile of sorted values."""
    places = np.asarray(percentiles) / 100 * (len(sorted_N) - 1)
    return np.interp(places, np.arange(len(sorted_N)), sorted_N)


def _numbers(row: Iterable[Any]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in row)
    except OverflowError as problem:  # a whole number of hundreds of digits
        raise ValueError("a standard holds a number that is too large") from problem
    if not all(map(isfinite, numbers)):
        raise ValueError("a standard holds numbers that are not finite")
    return numbers
