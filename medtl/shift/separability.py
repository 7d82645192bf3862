"""How well a linear classifier of patients it has not seen tells the domains apart.

Axes: N row, F feature, U unit, P patient, R arrangement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.chunks import Chosen, Floats, in_chunks
from medtl.shift.components import leading
from medtl.shift.contract import Rows, Scorer, ShiftMetric

#: Or as many as there are patients, where these are fewer.
FOLDS = 10
#: Penalty, in mean eigenvalues of the training rows' scatter.
RIDGE = 0.1
#: Of more columns than this, so many principal components of the pooled rows are taken.
COMPONENTS = 1024


def domain_auroc() -> ShiftMetric:
    """AUROC of telling source from target rows ("domain confusion"); where that is impossible, 0.5
    or, with few patients, a little less, as the null band shows.

    Ridge regression of the label (+1 source, -1 target), cross-fitted in ten folds of whole
    patients. Its threshold is half way between the two means, so that folds with another mixture of
    labels do not shift the scores. A unit on both sides has no label and takes no part. The proxy
    A-distance (Ben-David et al. 2007) of a classifier with error e is 2 (1 - 2 e).
    """
    return ShiftMetric("domain-auroc", _prepare, at_none=0.5)


def _prepare(rows: Rows) -> Scorer:
    values_NF = leading(rows.values_NF, COMPONENTS)
    rows_U = np.bincount(rows.unit_N, minlength=rows.units)
    starts_U = np.cumsum(rows_U) - rows_U
    sum_UF = np.add.reduceat(values_NF, starts_U, axis=0)
    labelled = _Labelled(values_NF, rows.unit_N, rows.patient_U, rows_U, sum_UF)

    def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
        used_GU, group_R = np.unique(source_RU ^ target_RU, axis=0, return_inverse=True)
        found_R = np.empty(len(source_RU))
        for group, used_U in enumerate(used_GU):
            scorer = in_chunks(labelled.scorer(used_U), 3 * len(values_NF))
            of_group = group_R == group
            found_R[of_group] = scorer(source_RU[of_group] & used_U, target_RU[of_group] & used_U)
        return found_R

    return score


@dataclass(frozen=True, slots=True)
class _Fold:
    """What a fold's classifiers share, whoever is on which side."""

    train_U: Chosen
    test_N: Chosen
    centre_F: Floats
    inverse_FF: Floats


@dataclass(frozen=True, slots=True)
class _Labelled:
    values_NF: Floats
    unit_N: NDArray[np.intp]
    patient_U: NDArray[np.intp]
    rows_U: NDArray[np.int64]
    sum_UF: Floats

    def scorer(self, used_U: Chosen) -> Scorer:
        """For arrangements that put each of the units used on one side."""
        used_N = used_U[self.unit_N]
        folds = self._folds(used_U)

        def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
            scores_RN = np.zeros((len(source_RU), len(used_N)))
            for fold in folds:
                scores_RN[:, fold.test_N] = self._scores(fold, source_RU, target_RU)
            found_R = _aurocs(scores_RN[:, used_N], source_RU[:, self.unit_N[used_N]])
            for side_RU in (source_RU, target_RU):
                found_R[[len(set(self.patient_U[side_U])) < 2 for side_U in side_RU]] = np.nan
            return found_R

        return score

    def _folds(self, used_U: Chosen) -> list[_Fold]:
        patients, of_U = np.unique(self.patient_U[used_U], return_inverse=True)
        fold_U = np.full(len(used_U), -1)
        fold_U[used_U] = of_U % FOLDS
        test_UK = fold_U[:, None] == np.arange(min(len(patients), FOLDS))
        tests_NF = [self.values_NF[test_U[self.unit_N]] for test_U in test_UK.T]
        squares_KFF = np.stack([test_NF.T @ test_NF for test_NF in tests_NF])
        squares_FF = squares_KFF.sum(0)
        folds = []
        for test_U, test_FF in zip(test_UK.T, squares_KFF, strict=True):
            train_U = used_U & ~test_U
            rows = self.rows_U[train_U].sum()
            centre_F = self.sum_UF[train_U].sum(0) / max(rows, 1)
            scatter_FF = squares_FF - test_FF - rows * np.outer(centre_F, centre_F)
            penalty = max(RIDGE * np.trace(scatter_FF) / len(scatter_FF), 1e-12)
            inverse_FF = np.linalg.inv(scatter_FF + penalty * np.eye(len(scatter_FF)))
            folds.append(_Fold(train_U, test_U[self.unit_N], centre_F, inverse_FF))
        return folds

    def _scores(self, fold: _Fold, source_RU: Chosen, target_RU: Chosen) -> Floats:
        """Scores of the fold's rows; 0 where its training patients are all on one side."""
        source, target = source_RU & fold.train_U, target_RU & fold.train_U
        centred_UF = self.sum_UF - self.rows_U[:, None] * fold.centre_F
        source_RF, target_RF = source @ centred_UF, target @ centred_UF
        weights_RF = (source_RF - target_RF) @ fold.inverse_FF
        n_R, m_R = source @ self.rows_U, target @ self.rows_U
        with np.errstate(invalid="ignore", divide="ignore"):
            middle_RF = (source_RF / n_R[:, None] + target_RF / m_R[:, None]) / 2
        threshold_R = np.einsum("rf,rf->r", middle_RF, weights_RF)
        test_NF = self.values_NF[fold.test_N] - fold.centre_F
        scores_RN: Floats = weights_RF @ test_NF.T - threshold_R[:, None]
        scores_RN[(n_R == 0) | (m_R == 0)] = 0
        return scores_RN


def _aurocs(scores_RN: Floats, source_RN: Chosen) -> Floats:
    """Area under the receiver operating curve of each arrangement, from ranks; ties count half."""
    from scipy.stats import rankdata

    n_R = source_RN.sum(1)
    m_R = source_RN.shape[1] - n_R
    ranks_R = np.where(source_RN, rankdata(scores_RN, axis=1), 0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found_R: Floats = (ranks_R - n_R * (n_R + 1) / 2) / (n_R * m_R)
    return found_R
