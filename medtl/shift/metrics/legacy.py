"""An MMD loop that many notebooks copy, with its errors, for comparison only.

Axes: N M row, F feature, R permutation, U unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics.base import Chosen, Floats

GAMMA = 0.1
BATCH = 1000

WARNING = (
    "wrong, for comparison only: scales each domain by itself, leaves out pairs across batches of "
    "rows; not 0 for a domain against itself"
)


def legacy_mmd(x_NF: NDArray[Any], y_MF: NDArray[Any]) -> float:
    """The sum, over all pairs of batches i, j of 1,000 rows, of ``sum k(Xi, Xi) / (n (n - 1)) +
    sum k(Yj, Yj) / (m (m - 1)) - 2 sum k(Xi, Yj) / (n m)``.

    k is an RBF kernel with gamma 0.1, on rows standardised within each domain. The errors: scaling
    each domain separately removes shifts in mean and scale. Gamma is the same for 2 features and
    for 240. Pairs of rows in different batches of one domain are left out, so the value depends on
    the order of rows and on the size of batches, and is not 0 for a domain against itself. Batches
    count once per batch of the other domain, so the value grows with a difference in size.
    """
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import StandardScaler

    x_NF, y_MF = StandardScaler().fit_transform(x_NF), StandardScaler().fit_transform(y_MF)
    n, m = len(x_NF), len(y_MF)
    total = 0.0
    for i in range(0, n, BATCH):
        for j in range(0, m, BATCH):
            x, y = x_NF[i : i + BATCH], y_MF[j : j + BATCH]
            total += rbf_kernel(x, x, GAMMA).sum() / (n * (n - 1))
            total += rbf_kernel(y, y, GAMMA).sum() / (m * (m - 1))
            total -= 2 * rbf_kernel(x, y, GAMMA).sum() / (n * m)
    return float(total)


def mmd_legacy() -> ShiftMetric:
    """:func:`legacy_mmd` as a metric: a value alone, without a test."""

    def prepare(rows: Rows) -> Scorer:
        def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
            domains = (
                [rows.values_NF[chosen_U[rows.unit_N]] for chosen_U in pair]
                for pair in zip(source_RU, target_RU, strict=True)
            )
            return np.array(
                [legacy_mmd(x, y) if min(len(x), len(y)) > 1 else np.nan for x, y in domains]
            )

        return score

    return ShiftMetric("mmd-legacy", prepare, tested=False, warning=WARNING)
