"""Image lines and small patches as rows: the intensities themselves.

Axes: I J K voxels (right-anterior-superior), N row, F feature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import block_mean
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import foreground_mask

#: Edges of a patch in voxels, and of the blocks that are averaged in it: 64 columns either way.
VOLUME_PATCH, VOLUME_BLOCK = (8, 8, 8), (2, 2, 2)


SLICE_PATCH, SLICE_BLOCK = (16, 16, 1), (2, 2, 1)


#: Rows per image; so many places are tried for each; a patch shows at least this share.
PATCHES, TRIES, LEAST_SHOWN = 64, 8, 0.5


def lines(_settings: FeatureSettings) -> FeatureExtractor:
    """Every line along the first axis (from left to right) that shows something, whole: 240 columns
    for an image of 240 x 240 x 155. Lines of empty air, more than half of them, are left out."""

    def rows(view: View) -> FeatureRows:
        kept_JK = foreground_mask(view).any(axis=0)
        values_NF = view.image_CIJK[0].transpose(1, 2, 0)[kept_JK].astype(np.float64)
        return FeatureRows(values_NF, tuple(f"line/{n:03}" for n in range(values_NF.shape[1])))

    return FeatureExtractor("lines", rows)


def patches(_settings: FeatureSettings) -> FeatureExtractor:
    """Up to 64 patches of 8 x 8 x 8 voxels (16 x 16 of pictures and single slices) of which half or
    more is shown, as the means of blocks of 2 voxels' edge.

    The places are drawn from those shown, by a fixed seed: images with the same mask are looked at
    in the same places. An image that is smaller than a patch is repeated at its edges.
    """

    def rows(view: View) -> FeatureRows:
        thin = view.image_CIJK.shape[3] < VOLUME_PATCH[2]
        patch, block = (SLICE_PATCH, SLICE_BLOCK) if thin else (VOLUME_PATCH, VOLUME_BLOCK)
        shape = view.image_CIJK.shape[1:]
        widths = [(0, max(0, edge - n)) for n, edge in zip(shape, patch, strict=True)]
        image_IJK = np.pad(view.image_CIJK[0], widths, mode="edge")
        foreground_IJK = np.pad(foreground_mask(view), widths, mode="edge")
        found = [image_IJK[place] for place in _places(foreground_IJK, patch)]
        values_NF = np.stack([block_mean(one, block).ravel() for one in found]).astype(np.float64)
        return FeatureRows(values_NF, tuple(f"patch/{n:02}" for n in range(values_NF.shape[1])))

    return FeatureExtractor("patches", rows)


def _places(
    foreground_IJK: NDArray[np.bool_], patch: tuple[int, int, int]
) -> list[tuple[slice, ...]]:
    """Boxes around voxels drawn from the shown ones; where none shows enough, the fullest one."""
    voxels = np.flatnonzero(foreground_IJK)
    drawn = np.random.default_rng(0).integers(len(voxels), size=PATCHES * TRIES)
    places, shares = [], []
    for centre in np.stack(np.unravel_index(voxels[drawn], foreground_IJK.shape), axis=1):
        starts = [
            int(min(max(0, at - edge // 2), n - edge))
            for at, edge, n in zip(centre, patch, foreground_IJK.shape, strict=True)
        ]
        place = tuple(slice(a, a + edge) for a, edge in zip(starts, patch, strict=True))
        places.append(place)
        shares.append(float(foreground_IJK[place].mean()))
        if sum(share >= LEAST_SHOWN for share in shares) == PATCHES:
            break
    kept = [place for place, share in zip(places, shares, strict=True) if share >= LEAST_SHOWN]
    return kept or [places[int(np.argmax(shares))]]
