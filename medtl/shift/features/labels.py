"""What there is to find in an image: how often, and how much of it.

Axes: L region.
"""

from __future__ import annotations

import numpy as np

from medtl.errors import DataError
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import one_row


def labels(settings: FeatureSettings) -> FeatureExtractor:
    """Of each region its share of the voxels shown, and log(1 + ml); or 1 for the case's class and
    0 for the others. ``settings.regions`` names the regions or classes."""

    def rows(view: View) -> FeatureRows:
        if view.target_LIJK is not None:
            return one_row(_volumes(view, settings.regions))
        if not view.class_name:
            raise DataError(f"{view.case} has no label; leave the features labels out")
        known = settings.regions
        if view.class_name not in known:
            raise DataError(
                f"{view.case} is of class {view.class_name}; known: {', '.join(known) or 'none'}"
            )
        return one_row({f"label/{name}": float(name == view.class_name) for name in known})

    return FeatureExtractor("labels", rows, joint=True, target=True)


def _volumes(view: View, regions: tuple[str, ...]) -> dict[str, float]:
    assert view.target_LIJK is not None
    if len(view.target_LIJK) != len(regions):
        raise DataError(
            f"{view.case} has masks of {len(view.target_LIJK)} regions, not of "
            f"{len(regions)} ({', '.join(regions)})"
        )
    shown = int(np.count_nonzero(view.foreground_CIJK.any(axis=0))) or view.foreground_CIJK[0].size
    voxel_ml = float(np.prod(view.spacing_mm)) / 1000
    found = {}
    for name, mask_IJK in zip(regions, view.target_LIJK, strict=True):
        voxels = int(np.count_nonzero(mask_IJK))
        found[f"label/{name}"] = voxels / shown
        if not view.is_2d:
            found[f"label/{name}_ml"] = float(np.log1p(voxels * voxel_ml))
    return found
