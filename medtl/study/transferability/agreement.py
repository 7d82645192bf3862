"""Agreement of the order that transferability predicts for arms with the order of their scores.

Axes: A B arm, R permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError
from medtl.study.transferability.inputs import Floats

#: With more arms, permutations are drawn at random.
MOST_EXACT = 8

#: Random permutations.
DRAWS = 9999

#: Smaller differences of coefficients are rounding.
TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rank coefficients over ``arms``, each with its one-sided permutation p.

    ``p``: the share of the permutations of the measured scores whose coefficient is as high or
    higher. With few arms it cannot be small: at least 1 / ``permutations``.
    """

    weighted_tau: float  #: Kendall's, with the most weight on the best arms (Vigna 2015)
    weighted_tau_p: float
    spearman: float
    spearman_p: float
    arms: int
    permutations: int  #: the observed one included
    exact: bool  #: whether these are all permutations


def rank_agreement(
    predicted: Mapping[str, float],
    measured: Mapping[str, float],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Agreement:
    """Agreement of two scores of the same arms, where higher is better in both.

    Up to 8 arms, p is over all permutations; with more, over ``draws`` random ones and the observed
    one.

    Raises:
        DataError: different arms on the two sides, fewer than 2, scores that are not finite, or
            equal for all arms.
    """
    if predicted.keys() != measured.keys():
        odd = ", ".join(sorted(predicted.keys() ^ measured.keys())[:3])
        raise DataError(f"only one of the two sides has arm {odd}; compare the same arms")
    arms = sorted(predicted)
    predicted_A = _scores(predicted, arms, "predicted")
    measured_A = _scores(measured, arms, "measured")
    orders_RA = _orders(len(arms), draws, seed)
    permuted_RA = measured_A[orders_RA]
    tau_R = weighted_taus(predicted_A, permuted_RA)
    spearman_R = _spearmans(predicted_A, permuted_RA)
    return Agreement(
        float(tau_R[0]),
        float((tau_R >= tau_R[0] - TIE).mean()),
        float(spearman_R[0]),
        float((spearman_R >= spearman_R[0] - TIE).mean()),
        len(arms),
        len(orders_RA),
        len(arms) <= MOST_EXACT,
    )


def weighted_taus(predicted_A: Floats, measured_RA: Floats) -> Floats:
    """Weighted Kendall tau of ``predicted_A`` with each row of ``measured_RA`` (Vigna 2015).

    A pair of arms weighs ``1 / rank + 1 / other rank``; the coefficient is the mean of those with
    ranks by the one score and by the other. It is ``scipy.stats.weightedtau``, which would take
    minutes for all permutations of 8 arms.
    """
    predicted_RA = np.broadcast_to(predicted_A, measured_RA.shape)
    apart_AB = np.sign(predicted_A[:, None] - predicted_A)
    agree_RA, apart_RA = np.empty(measured_RA.shape), np.empty(measured_RA.shape)
    for arm in range(len(predicted_A)):
        sign_RB = np.sign(measured_RA[:, [arm]] - measured_RA)
        agree_RA[:, arm] = sign_RB @ apart_AB[arm]
        apart_RA[:, arm] = np.abs(sign_RB).sum(1)
    taus = []
    for first_RA, second_RA in ((predicted_RA, measured_RA), (measured_RA, predicted_RA)):
        best_first_RA = np.lexsort((-second_RA, -first_RA), axis=1)
        weight_RA = 1 / (1 + np.argsort(best_first_RA, axis=1))
        scale_R = (weight_RA @ np.abs(apart_AB).sum(1)) * (weight_RA * apart_RA).sum(1)
        taus.append((weight_RA * agree_RA).sum(1) / np.sqrt(scale_R))
    return np.asarray(np.mean(taus, axis=0))


def _spearmans(predicted_A: Floats, measured_RA: Floats) -> Floats:
    from scipy.stats import rankdata

    one_A, two_RA = rankdata(predicted_A), rankdata(measured_RA, axis=1)
    one_A, two_RA = one_A - one_A.mean(), two_RA - two_RA.mean(1, keepdims=True)
    scale_R = np.sqrt((one_A**2).sum() * (two_RA**2).sum(1))
    return np.asarray(two_RA @ one_A / scale_R)


def _scores(by_arm: Mapping[str, float], arms: list[str], side: str) -> Floats:
    score_A = np.array([by_arm[arm] for arm in arms], dtype=np.float64)
    if len(score_A) < 2:
        raise DataError(f"{len(score_A)} arm; ranks need at least 2")
    if not np.isfinite(score_A).all():
        raise DataError(f"a {side} score is not finite; leave its arm out")
    if not np.ptp(score_A):
        raise DataError(f"all {side} scores are equal, so they rank no arm")
    return score_A


def _orders(arms: int, draws: int, seed: int) -> NDArray[np.intp]:
    """Permutations of the arms, the observed order first."""
    if arms <= MOST_EXACT:
        found = np.fromiter(permutations(range(arms)), dtype=(np.intp, arms), count=factorial(arms))
        return np.asarray(found)
    random = np.random.default_rng(seed)
    drawn_RA = random.permuted(np.tile(np.arange(arms), (draws, 1)), axis=1)
    return np.concatenate([np.arange(arms)[None], drawn_RA])
