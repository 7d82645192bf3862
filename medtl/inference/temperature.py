"""Temperature scaling of class probabilities (Guo et al. 2017).

Axes: N case, L class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


#: Bounds of the search for a temperature.
LOWEST, HIGHEST = 0.05, 20.0


#: A temperature within this factor of a bound is reported as not calibrated.
AT_BOUND = 1.001


#: Fitted on fewer cases, a temperature may make calibration worse.
FEW = 50


@dataclass(frozen=True, slots=True)
class Temperature:
    """The divisor of the logits (Guo et al. 2017), and the number of cases it was fitted on."""

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
        text = f"{text}: the probabilities become {way} certain"
        if self.cases < FEW:
            text += "; so few cases may mislead"
        if min(self.value / LOWEST, HIGHEST / self.value) > AT_BOUND:
            return text
        end = "lowest" if self.value < 1 else "highest"
        return f"{text}; the {end} that is tried, so the probabilities are not calibrated"


def fit_temperature(truth_N: NDArray[Any], probability_NL: Array) -> Temperature:
    """The temperature that minimises the log loss of these cases (Guo et al. 2017).

    1 without cases, and if every case is classified right: the loss then has no minimum, as it
    falls towards temperature 0.
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
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return Temperature(math.exp(minimum.x), count)


def tempered(probability_NL: Array, temperature: float) -> Array:
    """The probabilities for logits divided by ``temperature``, from those of the logits."""
    scaled_NL = _logarithms(probability_NL) / temperature
    share_NL = np.exp(scaled_NL - scaled_NL.max(1, keepdims=True))
    return np.asarray(share_NL / share_NL.sum(1, keepdims=True))


def _logarithms(probability_NL: Array) -> Array:
    return np.log(np.maximum(probability_NL, np.finfo(np.float64).tiny))
