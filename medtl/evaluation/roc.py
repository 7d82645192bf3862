"""ROC and precision-recall scores of one class against the rest.

Axes: N case, T threshold (the probabilities that occur, highest first), R replicate (weights of the
cases).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


#: Metric -> specificity at which it gives the sensitivity.
AT_SPECIFICITY = {"sensitivity_at_specificity_90": 0.9, "sensitivity_at_specificity_95": 0.95}


METRICS = ("auroc", "auprc", *AT_SPECIFICITY)


def ranking_scores(is_N: Array, probability_N: Array, weights_RN: Array) -> dict[str, Array]:
    """metric -> score_R; NaN if no weighted case is of the class, or all are.

    ``auroc``: the probability that a case of the class ranks above another one, ties count half.
    ``auprc``: average precision, the mean precision at the threshold of each case of the class,
    without interpolation; guessing scores the share of the class. Sensitivity at a specificity: the
    highest over the thresholds with at least that specificity.
    """
    yes_RT, no_RT = _by_threshold(is_N, probability_N, weights_RN)
    hits_RT, alarms_RT = np.cumsum(yes_RT, axis=1), np.cumsum(no_RT, axis=1)
    yes_R, no_R = hits_RT[:, -1], alarms_RT[:, -1]
    both_R = (yes_R > 0) & (no_R > 0)
    won_R = (yes_RT * (no_R[:, None] - alarms_RT + no_RT / 2)).sum(1)
    scores = {
        "auroc": divided(won_R, yes_R * no_R),
        "auprc": divided((yes_RT * divided(hits_RT, hits_RT + alarms_RT, 0.0)).sum(1), yes_R),
    }
    for metric, specificity in AT_SPECIFICITY.items():
        allowed_R1 = (1 - specificity) * no_R[:, None] * (1 + 1e-9)
        scores[metric] = divided(np.where(alarms_RT <= allowed_R1, hits_RT, 0.0).max(1), yes_R)
    return {metric: np.where(both_R, score_R, np.nan) for metric, score_R in scores.items()}


def curves(is_N: Array, probability_N: Array) -> dict[str, Array]:
    """``sensitivity``, ``false_alarms`` (1 - specificity) and ``precision`` at every threshold."""
    yes_1T, no_1T = _by_threshold(is_N, probability_N, np.ones((1, len(is_N))))
    hits_T, alarms_T = np.cumsum(yes_1T[0]), np.cumsum(no_1T[0])
    return {
        "sensitivity": hits_T / hits_T[-1],
        "false_alarms": alarms_T / alarms_T[-1],
        "precision": hits_T / (hits_T + alarms_T),
    }


def divided(part: Array, whole: Array, otherwise: float = np.nan) -> Array:
    """``part / whole``, or ``otherwise`` where ``whole`` is not positive."""
    undefined = np.full(np.shape(whole), otherwise)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole > 0))


def _by_threshold(is_N: Array, probability_N: Array, weights_RN: Array) -> tuple[Array, Array]:
    """The weight of the cases of the class, and of the others, at each threshold."""
    order = np.argsort(-probability_N, kind="stable")
    starts = np.flatnonzero(np.diff(-probability_N[order], prepend=-np.inf))  # one per tie
    sorted_RN = weights_RN[:, order]
    yes_RT = np.add.reduceat(sorted_RN * is_N[order], starts, axis=1)
    no_RT = np.add.reduceat(sorted_RN * (1 - is_N[order]), starts, axis=1)
    return yes_RT, no_RT
