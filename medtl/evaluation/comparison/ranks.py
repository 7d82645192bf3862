"""The order of several arms over the same patients and runs, and how sure it is.

Axes: A arm, P patient, R resample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError
from medtl.evaluation.comparison.effects import Runs
from medtl.evaluation.intervals import CONFIDENCE, RESAMPLES


@dataclass(frozen=True, slots=True)
class Rank:
    """The place of an arm; 1: the highest score. Arms that tie share the mean of their places."""

    mean: float  #: over patients, of the ranks within a patient
    best: float  #: share of the resamples in which the arm's mean score is the highest
    low: float  #: 95% interval of the rank by mean score
    high: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rank_arms(
    scores: Mapping[str, Runs], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Rank]:
    """The rank of each arm, higher scores being better.

    Each patient's runs are averaged, and patients are resampled within their folds. Runs are not
    resampled: the shares are those of *these* weights, and say less than
    :func:`~medtl.evaluation.comparison.effects.paired_effect` about further training.

    Raises:
        DataError: there is no arm, or the arms differ in patients.
    """
    scores_AP, folds_P = _means(scores)
    random = np.random.default_rng(seed)
    counts_RP = np.zeros((resamples, len(folds_P)))
    for fold in np.unique(folds_P):
        own_P = folds_P == fold
        size = int(own_P.sum())
        counts_RP[:, own_P] = random.multinomial(size, np.full(size, 1 / size), size=resamples)
    means_RA = counts_RP @ scores_AP.T / len(folds_P)
    ranks_RA = _ranks(means_RA)
    first_RA = ranks_RA == ranks_RA.min(axis=1, keepdims=True)
    best_A = (first_RA / first_RA.sum(axis=1, keepdims=True)).mean(axis=0)
    ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low_A, high_A = np.quantile(ranks_RA, ends, axis=0)
    mean_A = _ranks(scores_AP.T).mean(axis=0)
    return {
        arm: Rank(float(mean_A[index]), float(best_A[index]), float(low), float(high))
        for index, (arm, low, high) in enumerate(zip(scores, low_A, high_A, strict=True))
    }


def _ranks(scores_RA: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks within each row; scores that differ by rounding alone tie."""
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(-scores_RA.round(12), axis=1)
    return ranks


def _means(scores: Mapping[str, Runs]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean over runs (scores_AP) and the fold of each patient."""
    if not scores:
        raise DataError("there is no arm to rank; give at least one")
    found: dict[str, dict[tuple[int, str], list[float]]] = {}
    for arm, runs in scores.items():
        values = found.setdefault(arm, {})
        for (fold, _), by_patient in sorted(runs.items()):
            for patient, score in by_patient.items():
                values.setdefault((fold, patient), []).append(score)
    first, *others = found
    for arm in others:
        if odd := found[first].keys() ^ found[arm].keys():
            fold, patient = min(odd)
            raise DataError(
                f"only one of {first} and {arm} has patient {patient} in fold {fold}; "
                "rank arms of the same patients"
            )
    keys = sorted(found[first])
    scores_AP = np.array([[np.mean(values[key]) for key in keys] for values in found.values()])
    return scores_AP, np.array([fold for fold, _ in keys])
