"""Canonical correlations of two networks' features: SVCCA and projection weighted CCA (PWCCA).

Unlike CKA, canonical correlations do not change with any invertible linear map of the features.
Therefore they need more examples than directions: with N examples, p directions of one network and
q of the other, p + q - (N - 1) of the correlations are 1 whatever the networks are. Such numbers
are refused. Features that have nothing in common still have correlations above 0, such as a mean of
.24 for 40 directions each of 500 examples: compare with those of shuffled examples. Directions that
add less than 1e-12 of the variance are rounding.

Axes: N example, F G feature, D pair of canonical directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import ConfigError, DataError
from medtl.study.similarity.features import Floats, centred_rows, check_same_examples

#: The share of the variance that SVCCA keeps (Raghu et al. 2017).
VARIANCE = 0.99

#: A smaller share of the variance is rounding: networks compute in single precision.
ROUNDING = 1e-12


def svcca(x_NF: NDArray[Any], y_NG: NDArray[Any], *, variance: float = VARIANCE) -> float:
    """The mean canonical correlation of the strongest singular directions (Raghu et al. 2017).

    0 to 1; the mean is over the smaller number of directions kept. As ``variance`` picks the
    directions, only with ``variance=1`` is it the same for every invertible linear map.

    Raises:
        DataError: as for :func:`canonical_correlations`.
    """
    return float(canonical_correlations(x_NF, y_NG, variance=variance).mean())


def pwcca(x_NF: NDArray[Any], y_NG: NDArray[Any], *, variance: float = 1.0) -> float:
    """The canonical correlations' mean, weighted by how much of ``x`` each direction accounts for.

    The weight of a canonical direction of ``x`` is the sum of its absolute inner products with the
    features of ``x`` (Morcos et al. 2018). The two networks are thus not symmetric.

    Args:
        x_NF: features of the network that the weights come from; further axes count as features.
        y_NG: features of the same examples in the other network.
        variance: the share of each network's variance whose directions are kept; all as published.

    Raises:
        DataError: as for :func:`canonical_correlations`.
    """
    correlation_D, variate_ND = _canonical(x_NF, y_NG, variance)
    weight_D = np.abs(variate_ND.T @ centred_rows(x_NF)).sum(1)
    return float(correlation_D @ weight_D / weight_D.sum())


def canonical_correlations(
    x_NF: NDArray[Any], y_NG: NDArray[Any], *, variance: float = 1.0
) -> Floats:
    """Canonical correlations (D), largest first, of the directions with a share of the variance.

    D is the smaller number of directions kept. They are the cosines of the angles between the two
    spaces (Bjorck and Golub 1973).

    Raises:
        ConfigError: ``variance`` is not above 0 and up to 1.
        DataError: features of one network are constant, have values that are not finite or are of
            other examples, or there are too few examples for the directions kept.
    """
    return _canonical(x_NF, y_NG, variance)[0]


def _canonical(x_NF: NDArray[Any], y_NG: NDArray[Any], variance: float) -> tuple[Floats, Floats]:
    """Canonical correlations (D), and the directions of ``x`` as orthonormal columns (N, D)."""
    check_same_examples(x_NF, y_NG)
    x_NP, y_NQ = _directions(x_NF, variance), _directions(y_NG, variance)
    kept, examples = x_NP.shape[1] + y_NQ.shape[1], len(x_NP)
    if kept > examples - 1:
        raise DataError(
            f"{examples} examples, and {x_NP.shape[1]} and {y_NQ.shape[1]} directions: some "
            f"correlations are 1 whatever the networks; give more than {kept} examples, or keep a "
            "smaller share of the variance"
        )
    turn_PD, correlation_D, _ = np.linalg.svd(x_NP.T @ y_NQ, full_matrices=False)
    return np.minimum(correlation_D, 1.0), x_NP @ turn_PD


def _directions(features_NF: NDArray[Any], variance: float) -> Floats:
    """The fewest singular directions (columns) with a share ``variance`` of the variance."""
    if not 0 < variance <= 1:
        raise ConfigError(f"variance is {variance}; give a share above 0 and up to 1")
    direction_ND, size_D, _ = np.linalg.svd(centred_rows(features_NF), full_matrices=False)
    if not size_D[0]:
        raise DataError("all features of one network are constant; compare another layer")
    share_D = np.cumsum(size_D**2) / np.sum(size_D**2)
    kept = int(np.searchsorted(share_D, variance - ROUNDING)) + 1
    return np.asarray(direction_ND[:, :kept])
