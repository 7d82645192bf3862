"""How well a linear classifier separates the domains on patients that it was not trained on.

Axes: N row, F feature, U unit, P patient, R permutation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics.base import (
    Chosen,
    Floats,
    Patients,
    equalise_rows,
    in_chunks,
    patients_of,
    reduce_columns,
)

#: Folds of cross-fitting; with fewer patients, one fold per patient.
FOLDS = 10

#: Penalty, in mean eigenvalues of the training rows' scatter.
RIDGE = 0.1

#: More columns are reduced to this number of principal components of the pooled rows.
COMPONENTS = 1024


def domain_auroc() -> ShiftMetric:
    """AUROC of a classifier of source against target rows ("domain confusion"), 0 to 1.

    Without a shift it is 0.5 or, with few patients, slightly less, as the null interval shows. The
    classifier is ridge regression of the label (+1 source, -1 target), cross-fitted in ten folds of
    whole patients. Its threshold is the midpoint of the two means, so that folds with another
    mixture of labels do not shift the scores. Every patient has weight 1 in each domain. Units in
    both domains have no label and are left out. The proxy A-distance (Ben-David et al. 2007) of a
    classifier with error e is 2 (1 - 2 e).
    """
    return ShiftMetric("domain-auroc", _prepare, no_shift_value=0.5)


def _prepare(rows: Rows) -> Scorer:
    rows = equalise_rows(rows)
    values_NF = reduce_columns(rows.values_NF, COMPONENTS)
    patients = patients_of(rows)
    starts_U = np.cumsum(patients.rows_U) - patients.rows_U
    sum_UF = np.add.reduceat(values_NF, starts_U, axis=0)
    labelled = _Labelled(values_NF, rows.unit_N, patients, sum_UF)

    def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
        source_RU, target_RU = source_RU & ~target_RU, target_RU & ~source_RU
        weights_RU = patients.weights(source_RU) + patients.weights(target_RU)
        weights_GU, group_R = np.unique(weights_RU, axis=0, return_inverse=True)
        auroc_R = np.empty(len(source_RU))
        for group, weights_U in enumerate(weights_GU):
            scorer = in_chunks(labelled.scorer(weights_U), 6 * len(values_NF))
            same_R = group_R == group
            auroc_R[same_R] = scorer(source_RU[same_R], target_RU[same_R])
        return auroc_R

    return score


@dataclass(frozen=True, slots=True)
class _Fold:
    """The parts of a fold's classifiers that do not depend on the labels."""

    train_U: Chosen
    test_N: Chosen
    centre_F: Floats
    inverse_FF: Floats


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Rows to classify, and their sums by unit."""

    values_NF: Floats
    unit_N: NDArray[np.intp]
    patients: Patients
    sum_UF: Floats

    def scorer(self, weights_U: Floats) -> Scorer:
        """The scorer of permutations with these weights, in which units are in one domain each."""
        used_N = weights_U[self.unit_N] > 0
        weights_N = weights_U[self.unit_N[used_N]]
        folds = self._folds(weights_U)

        def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
            scores_RN = np.zeros((len(source_RU), len(used_N)))
            for fold in folds:
                weighted = source_RU * weights_U, target_RU * weights_U
                scores_RN[:, fold.test_N] = self._scores(fold, *weighted)
            source_RN = source_RU[:, self.unit_N[used_N]]
            auroc_R = _aurocs(scores_RN[:, used_N], source_RN, weights_N)
            for chosen_RU in (source_RU, target_RU):
                auroc_R[self.patients.count(chosen_RU) < 2] = np.nan
            return auroc_R

        return score

    def _folds(self, weights_U: Floats) -> list[_Fold]:
        used_U = weights_U > 0
        patients, of_U = np.unique(self.patients.of_U[used_U], return_inverse=True)
        fold_U = np.full(len(used_U), -1)
        fold_U[used_U] = of_U % FOLDS
        test_UK = fold_U[:, None] == np.arange(min(len(patients), FOLDS))
        weighted_NF = self.values_NF * weights_U[self.unit_N, None] ** 0.5
        tests_NF = [weighted_NF[test_U[self.unit_N]] for test_U in test_UK.T]
        squares_KFF = np.stack([test_NF.T @ test_NF for test_NF in tests_NF])
        squares_FF = squares_KFF.sum(0)
        folds = []
        for test_U, test_FF in zip(test_UK.T, squares_KFF, strict=True):
            train_U = used_U & ~test_U
            train = float(weights_U[train_U] @ self.patients.rows_U[train_U])
            centre_F = weights_U[train_U] @ self.sum_UF[train_U] / max(train, 1)
            scatter_FF = squares_FF - test_FF - train * np.outer(centre_F, centre_F)
            penalty = max(RIDGE * np.trace(scatter_FF) / len(scatter_FF), 1e-12)
            inverse_FF = np.linalg.inv(scatter_FF + penalty * np.eye(len(scatter_FF)))
            folds.append(_Fold(train_U, test_U[self.unit_N], centre_F, inverse_FF))
        return folds

    def _scores(self, fold: _Fold, source_RU: Floats, target_RU: Floats) -> Floats:
        """Scores of the fold's rows; 0 if its training patients are all in one domain."""
        source, target = source_RU * fold.train_U, target_RU * fold.train_U
        rows_U = self.patients.rows_U
        centred_UF = self.sum_UF - rows_U[:, None] * fold.centre_F
        source_RF, target_RF = source @ centred_UF, target @ centred_UF
        slope_RF = (source_RF - target_RF) @ fold.inverse_FF
        n_R, m_R = source @ rows_U, target @ rows_U
        with np.errstate(invalid="ignore", divide="ignore"):
            middle_RF = (source_RF / n_R[:, None] + target_RF / m_R[:, None]) / 2
        threshold_R = np.einsum("rf,rf->r", middle_RF, slope_RF)
        test_NF = self.values_NF[fold.test_N] - fold.centre_F
        scores_RN: Floats = slope_RF @ test_NF.T - threshold_R[:, None]
        scores_RN[(n_R == 0) | (m_R == 0)] = 0
        return scores_RN


def _aurocs(scores_RN: Floats, source_RN: Chosen, weights_N: Floats) -> Floats:
    """Weighted area under the receiver operating curve of each permutation.

    It is the weight of the pairs in which the source's row scores higher, over that of all pairs;
    ties count half.
    """
    rows = scores_RN.shape[1]
    order_RN = np.argsort(scores_RN, axis=1)
    sorted_RN = np.take_along_axis(scores_RN, order_RN, 1)
    source_RN = np.take_along_axis(source_RN, order_RN, 1)
    weights_RN = weights_N[order_RN]
    below_RN = np.cumsum(np.where(source_RN, 0, weights_RN), axis=1)  # target rows up to this one
    first_RN = np.diff(sorted_RN, axis=1, prepend=-np.inf) > 0
    last_RN = np.roll(first_RN, -1, axis=1)
    last_RN[:, -1] = True
    index_N = np.arange(rows)
    start_RN = np.maximum.accumulate(np.where(first_RN, index_N, 0), axis=1)
    end_RN = np.minimum.accumulate(np.where(last_RN, index_N, rows)[:, ::-1], axis=1)[:, ::-1]
    under_RN = np.take_along_axis(np.pad(below_RN, ((0, 0), (1, 0))), start_RN, 1)
    up_to_RN = np.take_along_axis(below_RN, end_RN, 1)
    won_R = np.where(source_RN, weights_RN * (under_RN + up_to_RN) / 2, 0).sum(1)
    of_source_R = np.where(source_RN, weights_RN, 0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(won_R / (of_source_R * below_RN[:, -1]))
