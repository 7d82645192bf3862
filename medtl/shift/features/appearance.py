"""One row of statistics per image, or per slice of it.

Columns are named ``family/name``: ``scale``, ``contrast``, ``noise``, ``resolution``, ``view``.
"""

from __future__ import annotations

import numpy as np

from medtl.data.io.grids import bounding_box
from medtl.runtime.subset import evenly_spaced
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.intensity import contrast_columns, scale_columns
from medtl.shift.features.region import (
    Foreground,
    crop_foreground,
    foreground_mask,
    measure_foreground,
    one_row,
    voxel_step,
)
from medtl.shift.features.resolution import resolution_columns, view_columns
from medtl.shift.features.texture import noise_columns

#: Rows per image at most, and the share of the fullest slice that a slice must show.
SLICES = 16


LEAST_SHOWN = 0.25


def appearance(_settings: FeatureSettings) -> FeatureExtractor:
    """Intensity scale, contrast, noise and sharpness, resolution, and field of view."""

    def rows(view: View) -> FeatureRows:
        shown = crop_foreground(view)
        return one_row(_statistics(shown) | resolution_columns(view, shown) | view_columns(view))

    return FeatureExtractor("appearance", rows)


def intensity(_settings: FeatureSettings) -> FeatureExtractor:
    """Location and scale of the intensities, and the shape of their histogram."""

    def rows(view: View) -> FeatureRows:
        shown = crop_foreground(view)
        return one_row(scale_columns(shown) | contrast_columns(shown))

    return FeatureExtractor("intensity", rows)


def texture(_settings: FeatureSettings) -> FeatureExtractor:
    """Noise, gradients and local contrast, relative to the spread of the intensities."""
    return FeatureExtractor("texture", lambda view: one_row(noise_columns(crop_foreground(view))))


def slices(_settings: FeatureSettings) -> FeatureExtractor:
    """Intensity and texture of up to 16 evenly spaced slices across the axis with the thickest
    voxels (of equals the last) that show at least a quarter of what the fullest one does."""

    def rows(view: View) -> FeatureRows:
        found = [one_row(_statistics(shown)) for shown in _slices(view)]
        return FeatureRows(np.concatenate([one.values_NF for one in found]), found[0].names)

    return FeatureExtractor("slices", rows)


def _statistics(shown: Foreground) -> dict[str, float]:
    return scale_columns(shown) | contrast_columns(shown) | noise_columns(shown)


def _slices(view: View) -> list[Foreground]:
    image_IJK, foreground_IJK, step = view.image_CIJK[0], foreground_mask(view), voxel_step(view)
    across = 2 - int(np.argmax([round(edge, 3) for edge in step[::-1]]))
    others = tuple(axis for axis in range(3) if axis != across)
    area = np.count_nonzero(foreground_IJK, axis=others)
    enough = np.flatnonzero(area >= LEAST_SHOWN * area.max())
    found = []
    for number in enough[evenly_spaced(len(enough), SLICES)]:
        cut = tuple(slice(number, number + 1) if a == across else slice(None) for a in range(3))
        box = bounding_box(foreground_IJK[cut]) or ...
        found.append(measure_foreground(image_IJK[cut][box], foreground_IJK[cut][box], step))
    return found
