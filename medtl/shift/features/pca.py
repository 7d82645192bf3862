"""Principal components of small, scaled images.

Axes: I J K voxels, N row, F feature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import resample_array
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import crop_foreground

#: Edges of the small images.
VOLUME, PICTURE = (16, 16, 16), (32, 32, 1)

#: Most principal components.
COMPONENTS = 16

#: Intensities are clipped at this distance from the median, in spreads.
LIMIT = 4.0


def pca(_settings: FeatureSettings) -> FeatureExtractor:
    """Principal components of the foreground's box at 16 x 16 x 16 voxels (pictures: 32 x 32).

    Intensities are relative to the median, in units of the spread; the background is 0.
    """

    def rows(view: View) -> FeatureRows:
        part = crop_foreground(view)
        scaled_IJK = np.where(part.foreground_IJK, np.clip(part.scaled_IJK, -LIMIT, LIMIT), 0)
        small = resample_array(scaled_IJK, PICTURE if view.image_CIJK.shape[3] == 1 else VOLUME)
        values_NF = small.reshape(1, -1).astype(np.float64)
        return FeatureRows(values_NF, tuple(f"thumbnail/{n:04}" for n in range(small.size)))

    return FeatureExtractor("pca", rows, embed=principal_components)


def principal_components(values_NF: NDArray[np.float64]) -> FeatureRows:
    """Scores on up to 16 components with variance; each one's largest loading is positive."""
    from sklearn.decomposition import PCA

    rows, columns = values_NF.shape
    count = min(COMPONENTS, columns, rows - 1)
    if count < 1 or np.ptp(values_NF, axis=0).max(initial=0) == 0:
        return FeatureRows(np.zeros((rows, 1)), ("pca/01",))
    model = PCA(count, svd_solver="covariance_eigh" if rows > columns else "full")
    scores_NF = model.fit_transform(values_NF)
    loadings = model.components_
    signs = np.sign(loadings[np.arange(count), np.abs(loadings).argmax(axis=1)])
    variance = model.explained_variance_
    kept = variance > 1e-12 * variance[0]
    return FeatureRows(
        (scores_NF * signs)[:, kept], tuple(f"pca/{n + 1:02}" for n in range(int(kept.sum())))
    )
