"""Intensities of image lines and small patches as rows.

Axes: I J K voxels (right-anterior-superior), N row, F feature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import block_mean
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import foreground_mask

#: Edges in voxels of a patch, and of the blocks that are averaged in it: 64 columns in both cases.
VOLUME_PATCH, VOLUME_BLOCK = (8, 8, 8), (2, 2, 2)

SLICE_PATCH, SLICE_BLOCK = (16, 16, 1), (2, 2, 1)

#: Most patches per image, places tried for each one, and the least share of foreground in it.
PATCHES, TRIES, LEAST_FOREGROUND = 64, 8, 0.5


def lines(_settings: FeatureSettings) -> FeatureExtractor:
    """Every line along the first axis (left to right) with foreground.

    An image of 240 x 240 x 155 voxels has 240 columns. Lines of empty air are left out.
    """

    def rows(view: View) -> FeatureRows:
        kept_JK = foreground_mask(view).any(axis=0)
        values_NF = view.image_CIJK[0].transpose(1, 2, 0)[kept_JK].astype(np.float64)
        return FeatureRows(values_NF, tuple(f"line/{n:03}" for n in range(values_NF.shape[1])))

    return FeatureExtractor("lines", rows)


def patches(_settings: FeatureSettings) -> FeatureExtractor:
    """Up to 64 patches of 8 x 8 x 8 voxels, as means over blocks with an edge of 2 voxels.

    Pictures and single slices have patches of 16 x 16. At least half of a patch is foreground. The
    places are drawn with a fixed seed: images with the same mask have the same places. An image
    smaller than a patch is padded with its edge values.
    """

    def rows(view: View) -> FeatureRows:
        thin = view.image_CIJK.shape[3] < VOLUME_PATCH[2]
        patch, block = (SLICE_PATCH, SLICE_BLOCK) if thin else (VOLUME_PATCH, VOLUME_BLOCK)
        shape = view.image_CIJK.shape[1:]
        widths = [(0, max(0, edge - n)) for n, edge in zip(shape, patch, strict=True)]
        image_IJK = np.pad(view.image_CIJK[0], widths, mode="edge")
        foreground_IJK = np.pad(foreground_mask(view), widths, mode="edge")
        cut = [image_IJK[place] for place in _places(foreground_IJK, patch)]
        values_NF = np.stack([block_mean(one, block).ravel() for one in cut]).astype(np.float64)
        return FeatureRows(values_NF, tuple(f"patch/{n:02}" for n in range(values_NF.shape[1])))

    return FeatureExtractor("patches", rows)


def _places(
    foreground_IJK: NDArray[np.bool_], patch: tuple[int, int, int]
) -> list[tuple[slice, ...]]:
    """Boxes around drawn foreground voxels; if none has enough of it, the one with most."""
    voxels = np.flatnonzero(foreground_IJK)
    drawn = np.random.default_rng(0).integers(len(voxels), size=PATCHES * TRIES)
    places, shares = [], []
    for centre in np.stack(np.unravel_index(voxels[drawn], foreground_IJK.shape), axis=1):
        edges = zip(centre, patch, foreground_IJK.shape, strict=True)
        starts = [int(min(max(0, at - edge // 2), n - edge)) for at, edge, n in edges]
        place = tuple(slice(a, a + edge) for a, edge in zip(starts, patch, strict=True))
        places.append(place)
        shares.append(float(foreground_IJK[place].mean()))
        if sum(share >= LEAST_FOREGROUND for share in shares) == PATCHES:
            break
    kept = [place for place, share in zip(places, shares, strict=True) if share >= LEAST_FOREGROUND]
    return kept or [places[int(np.argmax(shares))]]
