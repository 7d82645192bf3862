"""Distances between means and covariances: Frechet distance and CORAL.

Sums and sums of squares of each unit's rows are computed once; every permutation adds those of its
units.

Axes: N row, F G feature, U unit, R permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics.base import (
    HELD,
    Chosen,
    Floats,
    Patients,
    equalise_rows,
    in_chunks,
    patients_of,
    reduce_columns,
)

#: More columns are reduced to this number of principal components of the pooled rows.
COMPONENTS = 128

#: Eigenvalues below this share of the largest are 0.
ROUNDING = 1e-12


def frechet() -> ShiftMetric:
    """Frechet distance of Gaussians with the means m, n and covariances C, D of the domains.

    ``|m - n|^2 + tr(C + D - 2 (C D)^(1/2))``, as in Heusel et al. 2017. Covariances are over pairs
    of rows of different patients; with one row per patient they are the usual ones (n - 1). They
    are not regularised and may be singular. With few rows the distance is biased upwards, equally
    in every permutation.
    """
    return ShiftMetric("frechet", lambda rows: _scorer(rows, frechet_distances))


def coral() -> ShiftMetric:
    """Squared Frobenius norm of the difference of the covariances, over 4 F^2.

    Sun and Saenko 2016, equation 1; covariances as for ``frechet``.
    """

    def prepare(rows: Rows) -> Scorer:
        scale = 4 * rows.values_NF.shape[1] ** 2

        def distances(_: Floats, one_RFG: Floats, __: Floats, two_RFG: Floats) -> Floats:
            return np.asarray(((one_RFG - two_RFG) ** 2).sum((1, 2)) / scale)

        return _scorer(rows, distances)

    return ShiftMetric("coral", prepare)


def frechet_distances(
    mean_RF: Floats, covariance_RFG: Floats, other_RF: Floats, other_RFG: Floats
) -> Floats:
    """Frechet distance of pairs of Gaussians; covariances may be singular.

    With C = L L', the eigenvalues of C D are those of L' D L, which is symmetric.
    """
    root_RFG = _roots(covariance_RFG)
    between_RFG = np.swapaxes(root_RFG, 1, 2) @ other_RFG @ root_RFG
    values_RF = np.linalg.eigvalsh(between_RFG).astype(np.float64, copy=False)
    common_R = np.sqrt(_without_rounding(values_RF)).sum(1)
    traces_R = np.einsum("rff->r", covariance_RFG) + np.einsum("rff->r", other_RFG)
    return np.asarray(((mean_RF - other_RF) ** 2).sum(1) + traces_R - 2 * common_R)


def _roots(covariance_RFG: Floats) -> Floats:
    """L with C = L L'."""
    try:
        return np.linalg.cholesky(covariance_RFG).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:  # singular
        values_RF, vectors_RFG = np.linalg.eigh(covariance_RFG)
        return np.asarray(vectors_RFG * np.sqrt(_without_rounding(values_RF))[:, None])


def _without_rounding(eigenvalues_RF: Floats) -> Floats:
    """Set rounding errors of singular matrices to 0: the root of 1e-16 would be 1e-8."""
    least_R = ROUNDING * eigenvalues_RF.max(1, keepdims=True)
    return np.where(eigenvalues_RF > least_R, eigenvalues_RF, 0.0)


def _scorer(rows: Rows, distances: Callable[[Floats, Floats, Floats, Floats], Floats]) -> Scorer:
    moments = _prepared(rows)

    def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
        source_RU, target_RU = moments.patients.balanced(source_RU, target_RU)
        distance_R = np.full(len(source_RU), np.nan)
        enough_R = (moments.patients.count(source_RU) > 1) & (moments.patients.count(target_RU) > 1)
        if enough_R.any():
            source, target = moments(source_RU[enough_R]), moments(target_RU[enough_R])
            distance_R[enough_R] = distances(*source, *target)
        return distance_R

    units, features = moments.sum_UF.shape
    return in_chunks(score, 6 * features**2 + 2 * units * features)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums by unit that give the mean and covariance of any choice of units."""

    values_NF: Floats
    patients: Patients
    sum_UF: Floats
    square_UFG: Floats | None  #: None: too large for the memory

    def __call__(self, chosen_RU: Chosen) -> tuple[Floats, Floats]:
        """Mean_RF and covariance_RFG: half the mean of (x - y)(x - y)' over rows of two patients.

        It is the scatter within patients plus that of the patients' means.
        """
        weights_RU = self.patients.weights(chosen_RU)
        patients_R = self.patients.count(chosen_RU)[:, None, None]
        means_RPF = self.patients.summed(weights_RU[:, :, None] * self.sum_UF)
        mean_RF = means_RPF.sum(1) / patients_R[:, 0]
        between_RFG = np.swapaxes(means_RPF, 1, 2) @ means_RPF / (patients_R * (patients_R - 1))
        outer_RFG = mean_RF[:, :, None] * mean_RF[:, None] * (patients_R / (patients_R - 1))
        return mean_RF, self._squares(weights_RU) / patients_R + between_RFG - outer_RFG

    def _squares(self, weights_RU: Floats) -> Floats:
        if self.square_UFG is not None:
            return np.tensordot(weights_RU, self.square_UFG, 1)
        weights_RN = (np.repeat(weights_U, self.patients.rows_U) for weights_U in weights_RU)
        parts = (
            (self.values_NF[weights_N > 0], weights_N[weights_N > 0]) for weights_N in weights_RN
        )
        return np.stack([(part_NF.T * weights_N) @ part_NF for part_NF, weights_N in parts])


def _prepared(rows: Rows) -> _Moments:
    rows = equalise_rows(rows)
    values_NF = reduce_columns(rows.values_NF, COMPONENTS)
    patients = patients_of(rows)
    starts_U = np.cumsum(patients.rows_U) - patients.rows_U
    features = values_NF.shape[1]
    square_UFG = None
    if rows.units * features**2 <= 8 * HELD:
        square_UFG = np.stack([part.T @ part for part in np.split(values_NF, starts_U[1:])])
    sum_UF = np.add.reduceat(values_NF, starts_U, axis=0)
    return _Moments(values_NF, patients, sum_UF, square_UFG)
