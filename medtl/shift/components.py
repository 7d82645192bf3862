"""Fewer columns for metrics whose cost grows steeply with their number."""

from __future__ import annotations

from medtl.shift.chunks import Floats


def leading(values_NF: Floats, most: int) -> Floats:
    """Centred rows; of more than ``most`` columns, so many principal components of them.

    Nothing but the rest of the variance is lost: distances, Gaussians and ridge regression do not
    depend on how the axes are turned.
    """
    from sklearn.decomposition import PCA

    if values_NF.shape[1] <= most:
        centred_NF: Floats = values_NF - values_NF.mean(0)
        return centred_NF
    turned_NF: Floats = PCA(min(most, len(values_NF)), random_state=0).fit_transform(values_NF)
    return turned_NF
