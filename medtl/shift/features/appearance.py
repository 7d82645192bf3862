"""Statistics of an image, or of each of its slices, as rows.

Columns are named ``family/name``: ``scale``, ``contrast``, ``noise``, ``resolution``, ``view``.
"""

from __future__ import annotations

import numpy as np

from medtl.data.io.grids import bounding_box
from medtl.data.subset import evenly_spaced
from medtl.data.voxel_size import thickest_axis
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

#: Most slices per image, and their least foreground, relative to the slice with most of it.
SLICES, LEAST_FOREGROUND = 16, 0.25


def appearance(_settings: FeatureSettings) -> FeatureExtractor:
    """Intensity scale, contrast, noise and sharpness, resolution, and field of view."""

    def rows(view: View) -> FeatureRows:
        part = crop_foreground(view)
        return one_row(_statistics(part) | resolution_columns(view, part) | view_columns(view))

    return FeatureExtractor("appearance", rows)


def intensity(_settings: FeatureSettings) -> FeatureExtractor:
    """Location and scale of the intensities, and the shape of their histogram."""

    def rows(view: View) -> FeatureRows:
        part = crop_foreground(view)
        return one_row(scale_columns(part) | contrast_columns(part))

    return FeatureExtractor("intensity", rows)


def texture(_settings: FeatureSettings) -> FeatureExtractor:
    """Noise, gradients and local contrast, relative to the spread of the intensities."""
    return FeatureExtractor("texture", lambda view: one_row(noise_columns(crop_foreground(view))))


def slices(_settings: FeatureSettings) -> FeatureExtractor:
    """Intensity and texture of up to 16 evenly spaced slices.

    Slices are across the axis with the thickest voxels (the last of equal ones), and have at least
    a quarter of the foreground of the slice with most of it.
    """

    def rows(view: View) -> FeatureRows:
        measured = [one_row(_statistics(part)) for part in _slices(view)]
        return FeatureRows(np.concatenate([row.values_NF for row in measured]), measured[0].names)

    return FeatureExtractor("slices", rows)


def _statistics(part: Foreground) -> dict[str, float]:
    return scale_columns(part) | contrast_columns(part) | noise_columns(part)


def _slices(view: View) -> list[Foreground]:
    image_IJK, foreground_IJK, step = view.image_CIJK[0], foreground_mask(view), voxel_step(view)
    across = thickest_axis(step)
    others = tuple(axis for axis in range(3) if axis != across)
    area = np.count_nonzero(foreground_IJK, axis=others)
    enough = np.flatnonzero(area >= LEAST_FOREGROUND * area.max())
    parts = []
    for number in enough[evenly_spaced(len(enough), SLICES)]:
        cut = tuple(slice(number, number + 1) if a == across else slice(None) for a in range(3))
        box = bounding_box(foreground_IJK[cut]) or ...
        parts.append(measure_foreground(image_IJK[cut][box], foreground_IJK[cut][box], step))
    return parts
