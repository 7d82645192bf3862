"""The labels of an image: its class, or the volume of each region.

Axes: L region.
"""

from __future__ import annotations

import numpy as np

from medtl.errors import DataError
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import one_row


def labels(settings: FeatureSettings) -> FeatureExtractor:
    """Each region's share of the foreground and log(1 + ml), or the class as a one-hot row.

    ``settings.regions`` names the regions or classes.

    Raises:
        DataError: a case has no label, or another class or number of regions.
    """

    def rows(view: View) -> FeatureRows:
        if view.target_LIJK is not None:
            return one_row(_volumes(view, settings.regions))
        if not view.class_name:
            raise DataError(f"{view.case} has no label; leave out the features labels")
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
    foreground_IJK = view.foreground_CIJK.any(axis=0)
    size = int(np.count_nonzero(foreground_IJK)) or foreground_IJK.size
    voxel_ml = float(np.prod(view.spacing_mm)) / 1000 * view.fill
    columns = {}
    for name, mask_IJK in zip(regions, view.target_LIJK, strict=True):
        voxels = int(np.count_nonzero(mask_IJK))
        columns[f"label/{name}"] = voxels / size
        if not view.is_2d:
            columns[f"label/{name}_ml"] = float(np.log1p(voxels * voxel_ml))
    return columns
