"""One row of statistics per image, or per slice of it.

Columns are named ``family/name``: ``scale``, ``contrast``, ``noise``, ``resolution``, ``view``.
"""

from __future__ import annotations

import numpy as np

from medtl.data.io.resample import box_of
from medtl.shift.contract import Features, Measured, Settings, View
from medtl.shift.features.intensity import contrast_columns, scale_columns
from medtl.shift.features.region import Shown, cut_out, one_row, shown_in, shown_mask, voxel_step
from medtl.shift.features.resolution import resolution_columns, view_columns
from medtl.shift.features.texture import noise_columns

#: Rows per image at most, and the share of the fullest slice that a slice must show.
SLICES = 16


LEAST_SHOWN = 0.25


def appearance(_settings: Settings) -> Features:
    """Intensity scale, contrast, noise and sharpness, resolution, and field of view."""

    def rows(view: View) -> Measured:
        shown = cut_out(view)
        return one_row(_statistics(shown) | resolution_columns(view, shown) | view_columns(view))

    return Features("appearance", rows)


def intensity(_settings: Settings) -> Features:
    """Location and scale of the intensities, and the shape of their histogram."""

    def rows(view: View) -> Measured:
        shown = cut_out(view)
        return one_row(scale_columns(shown) | contrast_columns(shown))

    return Features("intensity", rows)


def texture(_settings: Settings) -> Features:
    """Noise, gradients and local contrast, relative to the spread of the intensities."""
    return Features("texture", lambda view: one_row(noise_columns(cut_out(view))))


def slices(_settings: Settings) -> Features:
    """Intensity and texture of up to 16 evenly spaced slices across the axis with the thickest
    voxels (of equals the last) that show at least a quarter of what the fullest one does."""

    def rows(view: View) -> Measured:
        found = [one_row(_statistics(shown)) for shown in _slices(view)]
        return Measured(np.concatenate([one.values_NF for one in found]), found[0].names)

    return Features("slices", rows)


def _statistics(shown: Shown) -> dict[str, float]:
    return scale_columns(shown) | contrast_columns(shown) | noise_columns(shown)


def _slices(view: View) -> list[Shown]:
    image_IJK, shown_IJK, step = view.image_CIJK[0], shown_mask(view), voxel_step(view)
    across = 2 - int(np.argmax([round(edge, 3) for edge in step[::-1]]))
    others = tuple(axis for axis in range(3) if axis != across)
    area = np.count_nonzero(shown_IJK, axis=others)
    enough = np.flatnonzero(area >= LEAST_SHOWN * area.max())
    places = np.linspace(0, len(enough) - 1, min(SLICES, len(enough))).round().astype(int)
    found = []
    for number in enough[places]:
        cut = tuple(slice(number, number + 1) if a == across else slice(None) for a in range(3))
        box = box_of(shown_IJK[cut])
        found.append(shown_in(image_IJK[cut][box], shown_IJK[cut][box], step))
    return found
