"""Whether probabilities mean what they say, and a temperature that makes them.

Axes: N case, L class, R replicate (a way to weigh the cases), D bin of confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.classification.ranking import divided

Array = NDArray[np.float64]

#: Bins of the expected calibration error, as in Guo et al. 2017.
BINS = 15
METRICS = ("brier", "log_loss", "ece")
#: Probabilities below this count as this much in the log loss.
LEAST_PROBABILITY = 1e-15
#: A temperature is looked for between these.
LOWEST, HIGHEST = 0.05, 20.0
#: One that is within this factor of one of them would go on beyond it.
AT_BOUND = 1.001
#: Fitted on fewer cases than these it may make matters worse.
FEW = 50


@dataclass(frozen=True, slots=True)
class Temperature:
    """What logits are divided by (Guo et al. 2017), and how many cases it was fitted on."""

    value: float = 1.0
    cases: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"temperature {self.value} is not a positive number")

    def __str__(self) -> str:
        if not self.cases:
            return "temperature 1: no validation cases to fit it on, probabilities as they are"
        if self.value == 1:
            return (
                f"temperature 1: all {self.cases} validation cases are classified right, which "
                "gives none to fit"
            )
        way = "more" if self.value < 1 else "less"
        text = f"temperature {self.value:.3g}, fitted on {self.cases} validation cases"
        text = f"{text}: {way} sure than the network says"
        if self.cases < FEW:
            text += "; so few may mislead: summary.json has the ECE without it, too"
        if min(self.value / LOWEST, HIGHEST / self.value) > AT_BOUND:
            return text
        end = "lowest" if self.value < 1 else "highest"
        return f"{text}; the {end} that is tried, so the probabilities are not calibrated"


def fit_temperature(truth_N: NDArray[Any], probability_NL: Array) -> Temperature:
    """The temperature at which the log loss of these cases is least (Guo et al. 2017).

    1 without cases, and where every case is classified right: the loss then falls on and on
    towards temperature 0, and nothing says where to stop.
    """
    from scipy.optimize import minimize_scalar

    count = len(truth_N)
    if not count:
        return Temperature()
    log_NL = _logarithms(probability_NL)
    own_N = log_NL[np.arange(count), truth_N]
    if (own_N == log_NL.max(1)).all():
        return Temperature(1.0, count)

    def loss(log_temperature: float) -> float:
        scaled_NL = log_NL / math.exp(log_temperature)
        highest_N = scaled_NL.max(1)
        total_N = highest_N + np.log(np.exp(scaled_NL - highest_N[:, None]).sum(1))
        return float((total_N - own_N / math.exp(log_temperature)).mean())

    bounds = math.log(LOWEST), math.log(HIGHEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return Temperature(math.exp(found.x), count)


def tempered(probability_NL: Array, temperature: float) -> Array:
    """The probabilities at which logits over ``temperature`` arrive, from those of the logits."""
    scaled_NL = _logarithms(probability_NL) / temperature
    share_NL = np.exp(scaled_NL - scaled_NL.max(1, keepdims=True))
    return np.asarray(share_NL / share_NL.sum(1, keepdims=True))


def _logarithms(probability_NL: Array) -> Array:
    return np.log(np.maximum(probability_NL, np.finfo(np.float64).tiny))


def calibration_scores(
    truth_N: NDArray[Any], probability_NL: Array, weights_RN: Array
) -> dict[str, Array]:
    """metric -> score_R; NaN where no case weighs anything.

    ``brier``: the mean squared distance of the probabilities from the truth, summed over classes
    (Brier 1950). ``log_loss``: the mean negative logarithm of the true class's probability.
    ``ece``: expected calibration error, the mean gap between the highest probability and how often
    that class is right, over bins of that probability (Guo et al. 2017); few cases enlarge it.
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
    """Of each bin that holds cases: ``low``, ``high``, ``cases``, their mean highest probability
    (``confidence``) and the share of them that it was right for (``accuracy``)."""
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
