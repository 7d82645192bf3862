"""Distances between distribution functions: Kolmogorov-Smirnov and sliced Wasserstein.

Every column is sorted once; a permutation only changes the weights of the sorted rows. All patients
have the same number of rows in a domain, so the weights are integers and equal distances are
bit-identical.

Axes: N row, F column, U unit, R permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics.base import Chosen, Floats, Patients, equalise_rows, in_chunks, patients_of
from medtl.shift.stats.metric_result import p_value, score_in_chunks
from medtl.shift.stats.permutations import Comparison, Permutations

#: Directions of the sliced Wasserstein distance.
DIRECTIONS = 64

#: Whole numbers up to this are exact in single precision.
_EXACT = 2**24


def sliced_wasserstein() -> ShiftMetric:
    """Wasserstein-1 distance, averaged over 64 random directions (Bonneel et al. 2015).

    For a single feature it is the Wasserstein-1 distance itself.
    """
    return ShiftMetric(
        "sliced-wasserstein", lambda rows: _scorer(_columns(rows, _area, _projected), np.mean)
    )


def ks() -> ShiftMetric:
    """The largest Kolmogorov-Smirnov statistic of all features.

    Its permutation test is corrected for the number of features.
    """
    return ShiftMetric("ks", lambda rows: _scorer(_columns(rows, _largest), np.max))


@dataclass(frozen=True, slots=True)
class FeatureShift:
    """The Kolmogorov-Smirnov statistic of one feature; ``p`` corrected for all by max-T."""

    name: str
    value: float
    p: float


def ks_features(
    rows: Rows, comparison: Comparison, permutations: Permutations
) -> list[FeatureShift]:
    """The Kolmogorov-Smirnov statistic of every feature, the largest first.

    Each is tested against the largest statistic of all features in each permutation (max-T,
    Westfall and Young 1993).
    """
    columns = _columns(rows, _largest)
    values_F = columns(comparison.source_U[None], comparison.target_U[None])[0]
    scorer = _scorer(columns, np.max)
    largest_R = score_in_chunks(scorer, *permutations.apply(comparison))
    shifts = [
        FeatureShift(name, value, p_value(value, largest_R, permutations.exhaustive))
        for name, value in zip(rows.names, values_F.tolist(), strict=True)
    ]
    return sorted(shifts, key=lambda feature: -feature.value)


def _projected(values_NF: Floats) -> Floats:
    features = values_NF.shape[1]
    if features == 1:
        return values_NF
    directions_FC = np.random.default_rng(0).normal(size=(features, DIRECTIONS))
    return np.asarray(values_NF @ (directions_FC / np.linalg.norm(directions_FC, axis=0)))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The sorted columns of a sample.

    ``distance``: differences_RN of the distribution functions, times the numbers of rows of both
    domains, and the sorted values_N -> a number per permutation.
    """

    sorted_FN: Floats
    unit_FN: NDArray[np.unsignedinteger]  #: of the sorted rows
    patients: Patients
    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, source_RU: Chosen, target_RU: Chosen) -> Floats:
        """A number per permutation and column (R, F); NaN where a domain is empty."""
        source_RU, target_RU = self.patients.balanced(source_RU, target_RU)
        n_R, m_R = source_RU @ self.patients.rows_U, target_RU @ self.patients.rows_U
        weights_RU = source_RU * m_R[:, None] - target_RU * n_R[:, None]
        exact = np.float32 if (n_R * m_R).max() <= _EXACT else np.float64
        weighted = torch.from_numpy(weights_RU.astype(exact))
        values_FR = [
            self.distance(
                weighted.index_select(1, torch.from_numpy(unit_N.astype(np.int64))).cumsum(1),
                torch.from_numpy(sorted_N),
            ).double()
            for unit_N, sorted_N in zip(self.unit_FN, self.sorted_FN, strict=True)
        ]
        with np.errstate(invalid="ignore"):
            return np.asarray(torch.stack(values_FR, 1).numpy() / (n_R * m_R)[:, None])


def _columns(
    rows: Rows,
    distance: Callable[[Tensor, Tensor], Tensor],
    project: Callable[[Floats], Floats] = np.asarray,
) -> _Columns:
    rows = equalise_rows(rows)
    values_FN = project(rows.values_NF).T
    order_FN = np.argsort(values_FN, axis=1, kind="stable")
    unit_FN = rows.unit_N.astype(np.min_scalar_type(rows.units))[order_FN]
    sorted_FN = np.take_along_axis(values_FN, order_FN, 1)
    return _Columns(sorted_FN, unit_FN, patients_of(rows), distance)


def _largest(differences_RN: Tensor, sorted_N: Tensor) -> Tensor:
    steps_N = sorted_N.diff() > 0  # equal values are one step
    if not steps_N.all():
        differences_RN = differences_RN[:, :-1][:, steps_N]
    return differences_RN.abs().amax(1)


def _area(differences_RN: Tensor, sorted_N: Tensor) -> Tensor:
    return differences_RN[:, :-1].abs().double() @ sorted_N.diff()


def _scorer(columns: _Columns, summary: Callable[..., Floats]) -> Scorer:
    """Summarise the columns of each permutation by ``np.mean`` or ``np.max``."""

    def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
        return summary(columns(source_RU, target_RU), axis=1)

    return in_chunks(score, columns.sorted_FN.shape[1])
