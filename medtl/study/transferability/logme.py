"""LogME: the log maximum evidence of a Bayesian linear model on the features (You et al. 2021).

Targets are ``y = F w + noise``, with weights of variance 1 / alpha and noise of variance 1 / beta:
``y ~ N(0, I / beta + F F' / alpha)``. LogME is the largest log density over alpha and beta, per
example. As published, features are not centred and there is no intercept.

You et al. iterate to a fixed point of alpha and beta. It may be slow, and end in one of two maxima.
Here, beta has its best value for each ratio ``alpha / beta``, and the ratio is searched: the
maximum is the same, or higher. The ratio is bounded, as the evidence of a perfect fit is not.

Axes: N example, F feature, K target, D singular direction of the features, G ratio of a grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medtl.errors import DataError
from medtl.study.transferability.inputs import Floats, class_numbers, finite_rows

#: Ratios alpha / beta that are searched, times the largest eigenvalue of F F'.
RATIOS = np.geomspace(1e-10, 1e10, 81)

#: Squared singular values below this share of the largest are rounding.
ROUNDING = 1e-12


def logme(features_NF: NDArray[Any], labels_N: ArrayLike) -> float:
    """LogME of classes: the mean over classes of the evidence for each one against the rest.

    It has no bounds; higher means that a linear model explains the classes better.

    Raises:
        DataError: values that are not finite, a single class, or not one label per example.
    """
    class_N = class_numbers(labels_N, len(features_NF))
    return logme_regression(features_NF, np.eye(class_N.max() + 1)[class_N])


def logme_regression(features_NF: NDArray[Any], targets_NK: NDArray[Any]) -> float:
    """LogME of numbers: the mean over K targets (one axis: a single target).

    Raises:
        DataError: values that are not finite, a target that is the same for all examples, features
            that are all 0, or not one row of targets per example.
    """
    rows_NF = finite_rows(features_NF)
    target_NK = finite_rows(targets_NK.reshape(len(targets_NK), -1), "targets")
    if len(target_NK) != len(rows_NF):
        raise DataError(f"{len(target_NK)} targets of {len(rows_NF)} examples; give one of each")
    if not np.ptp(target_NK, axis=0).all():
        raise DataError("a target is the same for all examples; leave it out")
    direction_ND, size_D, _ = np.linalg.svd(rows_NF, full_matrices=False)
    if not size_D[0]:
        raise DataError("features are all 0; take another layer")
    kept_D = size_D**2 > ROUNDING * size_D[0] ** 2
    along_DK = (direction_ND[:, kept_D].T @ target_NK) ** 2
    rest_K = np.maximum((target_NK**2).sum(0) - along_DK.sum(0), 0)
    eigenvalue_D = size_D[kept_D] ** 2
    evidences = [
        _maximum(eigenvalue_D, along_D, rest, len(rows_NF))
        for along_D, rest in zip(along_DK.T, rest_K.tolist(), strict=True)
    ]
    return float(np.mean(evidences)) / len(rows_NF)


def _maximum(eigenvalue_D: Floats, along_D: Floats, rest: float, n: int) -> float:
    """The largest evidence over ratios: the best of a grid, refined between its neighbours."""
    from scipy.optimize import minimize_scalar

    ratio_G = RATIOS * eigenvalue_D[0]
    evidence_G = _evidence(ratio_G, eigenvalue_D, along_D, rest, n)
    best = int(evidence_G.argmax())
    low, high = ratio_G[max(best - 1, 0)], ratio_G[min(best + 1, len(ratio_G) - 1)]
    refined = minimize_scalar(
        lambda log: -_evidence(np.exp([log]), eigenvalue_D, along_D, rest, n)[0],
        bounds=(np.log(low), np.log(high)),
        method="bounded",
    )
    return max(float(evidence_G[best]), -float(refined.fun))


def _evidence(
    ratio_G: Floats, eigenvalue_D: Floats, along_D: Floats, rest: float, n: int
) -> Floats:
    """The log density for each ratio alpha / beta, with the best beta.

    ``along_D``: squares of the target along each direction; ``rest``: outside all of them.
    """
    gain_GD = 1 + eigenvalue_D / ratio_G[:, None]
    variance_G = ((along_D / gain_GD).sum(1) + rest) / n  # 1 / beta
    return np.asarray(-(n * (np.log(2 * np.pi * variance_G) + 1) + np.log(gain_GD).sum(1)) / 2)
