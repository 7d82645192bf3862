"""Intervals of mean scores, with the patient as the unit.

Fewer than 5 patients: no interval, the values are listed. 5 to 19: Student-t, clipped to the
metric's range. 20 and more: bias-corrected and accelerated (BCa) bootstrap (Efron 1987).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError

LEVEL = 0.95
RESAMPLES = 9999
FEWEST_FOR_INTERVAL = 5
FEWEST_FOR_BOOTSTRAP = 20

#: One patient's score, or the scores of all of this patient's cases.
Values = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` patients with its 95% interval; ``method`` says how it was found."""

    mean: float
    n: int
    low: float | None
    high: float | None
    method: str
    values: tuple[float, ...] = ()  #: per patient, listed only where there is no interval

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "mean": self.mean, "n": self.n, "low": self.low, "high": self.high,
            "method": self.method,
        }  # fmt: skip
        return body | {"values": list(self.values)} if self.values else body


def patient_means(values_by_patient: Mapping[str, Values]) -> dict[str, float]:
    """Average the cases of each patient, in order of patient.

    Raises:
        DataError: no patient, a patient without a value, or a value that is not finite.
    """
    if not values_by_patient:
        raise DataError("there is no patient to score; give at least one case with a target")
    means = {}
    for patient, values in sorted(values_by_patient.items()):
        cases = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if not cases.size or not np.isfinite(cases).all():
            raise DataError(f"patient {patient}: a score is missing or not finite: {cases}")
        means[patient] = float(cases.mean())
    return means


def interval(
    values_by_patient: Mapping[str, Values],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Interval:
    """The mean over patients and its 95% interval.

    Args:
        values_by_patient: a score, or the scores of several cases that are averaged first.
        bounds: the range of the metric; ``(0, math.inf)`` for a distance.
        seed: of the bootstrap; the order of the patients does not matter.
    """
    values = np.array(list(patient_means(values_by_patient).values()))
    mean, n = float(values.mean()), len(values)
    if n < FEWEST_FOR_INTERVAL:
        method = f"values listed (n < {FEWEST_FOR_INTERVAL})"
        return Interval(mean, n, None, None, method, tuple(values.tolist()))
    if np.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, n, mean, mean, "all values equal")
    if n < FEWEST_FOR_BOOTSTRAP:
        low, high = _student_t(values)
        lowest, highest = bounds
        method = f"Student-t {LEVEL:.0%}, clipped to [{lowest:g}, {highest:g}]"
        return Interval(mean, n, max(low, lowest), min(high, highest), method)
    low, high = _bca(values, seed)
    method = f"BCa bootstrap by patient {LEVEL:.0%}, {RESAMPLES} resamples"
    return Interval(mean, n, low, high, method)


def paired_difference(
    a: Mapping[str, Values],
    b: Mapping[str, Values],
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
) -> Interval:
    """The mean of ``a - b`` within each patient, with its interval as in :func:`interval`.

    ``bounds`` is the range of the difference; ``(-math.inf, math.inf)`` for distances.

    Raises:
        DataError: the two sides were not measured on the same patients.
    """
    if a.keys() != b.keys():
        odd = ", ".join(sorted(a.keys() ^ b.keys())[:3])
        raise DataError(f"only one of the two sides has patient {odd}; compare the same patients")
    mean_a, mean_b = patient_means(a), patient_means(b)
    return interval({p: mean_a[p] - mean_b[p] for p in mean_a}, bounds=bounds, seed=seed)


def _student_t(values: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def _bca(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
