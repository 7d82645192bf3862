"""H-score: the share of the features' variance that lies between classes, summed over directions.

Both scores are ``tr(C^-1 B)``, with the covariance C of the features and B of the class means. They
are sums over singular directions of the centred features, where C is diagonal.

Axes: N example, F feature, D singular direction, C class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medtl.errors import DataError
from medtl.study.transferability.inputs import Floats, class_numbers, finite_rows

#: Squared singular values below this share of the largest are rounding.
ROUNDING = 1e-12


def h_score(features_NF: NDArray[Any], labels_N: ArrayLike) -> float:
    """H-score (Bao et al. 2019) with the pseudoinverse of C; 0 to C - 1.

    Raises:
        DataError: values that are not finite, constant features, a single class, not one label per
            example, or so many features that the score is C - 1 whatever they are.
    """
    _, between_D = _directions(features_NF, labels_N)
    if len(between_D) >= len(features_NF) - 1:
        raise DataError(
            f"features of {len(features_NF)} examples have {len(between_D)} directions: the "
            "H-score is the same whatever they are; take the regularised one, or more examples"
        )
    return float(between_D.sum())


def regularised_h_score(features_NF: NDArray[Any], labels_N: ArrayLike) -> float:
    """H-score with the Ledoit-Wolf shrinkage of C (Ibrahim et al. 2021); 0 to C - 1.

    C becomes ``(1 - s) C + s m I``, with the mean m of its eigenvalues, and B becomes
    ``(1 - s) B``. The shrinkage s is that of Ledoit and Wolf 2004. Features may outnumber examples,
    but the score then is still biased upwards (1.5 of at most 2 for 500 features of 20 examples in
    3 classes that have nothing to do with them): compare it at equal numbers of both.

    Raises:
        DataError: values that are not finite, constant features, a single class, or not one label
            per example.
    """
    variance_D, between_D = _directions(features_NF, labels_N)
    shrinkage = _ledoit_wolf(features_NF, variance_D)
    mean = variance_D.sum() / features_NF.shape[1]
    kept_D = (1 - shrinkage) * variance_D
    return float((between_D * kept_D / (kept_D + shrinkage * mean)).sum())


def _directions(features_NF: NDArray[Any], labels_N: ArrayLike) -> tuple[Floats, Floats]:
    """Variance of each singular direction, and its share that lies between classes."""
    centred_NF = _centred(features_NF)
    class_N = class_numbers(labels_N, len(centred_NF))
    direction_ND, size_D, _ = np.linalg.svd(centred_NF, full_matrices=False)
    if not size_D[0]:
        raise DataError("all features are constant; take another layer")
    kept_D = size_D**2 > ROUNDING * size_D[0] ** 2
    is_NC = np.eye(class_N.max() + 1)[class_N]
    sum_CD = is_NC.T @ direction_ND[:, kept_D]
    between_D = (sum_CD**2 / is_NC.sum(0)[:, None]).sum(0)
    return size_D[kept_D] ** 2 / len(centred_NF), between_D


def _ledoit_wolf(features_NF: NDArray[Any], variance_D: Floats) -> float:
    """The share of the identity in the estimate of the covariance, 0 to 1.

    It is the error of the sample covariance over its distance from ``m I`` (squared norms).
    """
    examples, features = features_NF.shape
    norm = float((variance_D**2).sum())
    distance = norm - float(variance_D.sum()) ** 2 / features
    fourth = float(((_centred(features_NF) ** 2).sum(1) ** 2).mean())
    if distance <= ROUNDING * norm:  # a single feature, or no direction stands out
        return 0.0
    return float(min((fourth - norm) / examples / distance, 1.0))


def _centred(features_NF: NDArray[Any]) -> Floats:
    rows_NF = finite_rows(features_NF)
    rows_NF -= rows_NF[0].copy()  # a constant feature is exactly 0 after this, its mean too
    return np.asarray(rows_NF - rows_NF.mean(0))
