"""Image lines and small patches as rows: the intensities themselves.

Axes: I J K voxels (right-anterior-superior), N row, F feature.
"""

from __future__ import annotations

import numpy as np

from medtl.shift.contract import Features, Measured, Settings, View


def lines(_settings: Settings) -> Features:
    """Every line along the first axis (from left to right) that shows something, whole: 240 columns
    for an image of 240 x 240 x 155. Lines of empty air, more than half of them, are left out."""

    def rows(view: View) -> Measured:
        kept_JK = view.shown_CIJK[0].any(axis=0)
        if not kept_JK.any():
            kept_JK = ~kept_JK
        values_NF = view.image_CIJK[0].transpose(1, 2, 0)[kept_JK].astype(np.float64)
        return Measured(values_NF, tuple(f"line/{n:03}" for n in range(values_NF.shape[1])))

    return Features("lines", rows)
