"""Calibration scores of probabilities.

Axes: N case, L class, R replicate (weights of the cases), D bin of confidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.evaluation.roc import divided
from medtl.inference.temperature import Array

#: Bins of the expected calibration error, as in Guo et al. 2017.
BINS = 15


METRICS = ("brier", "log_loss", "ece")


#: Lower bound of probabilities in the log loss.
LEAST_PROBABILITY = 1e-15


def calibration_scores(
    truth_N: NDArray[Any], probability_NL: Array, weights_RN: Array
) -> dict[str, Array]:
    """metric -> score_R; NaN if all weights are 0.

    ``brier``: the mean squared distance of the probabilities from the truth, summed over classes
    (Brier 1950). ``log_loss``: the mean negative logarithm of the true class's probability.
    ``ece``: expected calibration error, the mean gap between the highest probability and the
    accuracy, over bins of that probability (Guo et al. 2017); it is larger with few cases.
    """
    is_NL = np.eye(probability_NL.shape[1])[truth_N]
    total_R = weights_RN.sum(1)
    distance_N = ((probability_NL - is_NL) ** 2).sum(1)
    surprise_N = -np.log(np.maximum(probability_NL[is_NL == 1], LEAST_PROBABILITY))
    bin_N, sure_N, right_N = _confidence(truth_N, probability_NL)
    gap_ND = np.eye(BINS)[bin_N] * (right_N - sure_N)[:, None]
    return {
        "brier": divided(weights_RN @ distance_N, total_R),
        "log_loss": divided(weights_RN @ surprise_N, total_R),
        "ece": divided(np.abs(weights_RN @ gap_ND).sum(1), total_R),
    }


def reliability(truth_N: NDArray[Any], probability_NL: Array) -> list[dict[str, float]]:
    """Each bin with cases: ``low``, ``high``, ``cases``, their mean highest probability
    (``confidence``) and the share that is right (``accuracy``)."""
    bin_N, sure_N, right_N = _confidence(truth_N, probability_NL)
    return [
        {
            "low": index / BINS,
            "high": (index + 1) / BINS,
            "cases": int((bin_N == index).sum()),
            "confidence": float(sure_N[bin_N == index].mean()),
            "accuracy": float(right_N[bin_N == index].mean()),
        }
        for index in np.unique(bin_N).tolist()
    ]


def _confidence(
    truth_N: NDArray[Any], probability_NL: Array
) -> tuple[NDArray[np.int64], Array, Array]:
    """Bin (open at its lower end), highest probability, and whether it was right (1 or 0)."""
    sure_N = probability_NL.max(1)
    bin_N = np.clip(np.ceil(sure_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bin_N, sure_N, (probability_NL.argmax(1) == truth_N).astype(np.float64)
