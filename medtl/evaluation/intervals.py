"""Confidence intervals of scores, with the patient as the unit.

Fewer than 5 patients: no interval, the values are listed. 5 to 19: Student-t, clipped to the
metric's range. 20 and more: bias-corrected and accelerated (BCa) bootstrap (Efron 1987). If all
values are equal, there is no spread to estimate, and no interval. Shares of patients alone, counts
of hits and misses, then have the limits of Clopper and Pearson (1934) at the ends of their range
(of cases, if patients have equally many). Differences within patients have Student-t intervals,
however many patients there are.
Scores of a whole set of cases, which are not a mean over patients, follow the same rule. Their
Student-t interval uses the jackknife by patient (Tukey 1958), which gives the same for a mean.

Axes: N case, P patient, R replicate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medtl.data.splits import FEWEST_FOR_BOOTSTRAP
from medtl.errors import DataError

CONFIDENCE = 0.95


RESAMPLES = 9999


FEWEST_FOR_INTERVAL = 5


#: A score that is undefined in a larger share of the resamples has no interval.
MOST_UNDEFINED = 0.05


#: The method where all values are equal within the range: there is no spread to estimate.
_EQUAL = "no interval (all values equal)"


_BCA = f"BCa bootstrap by patient {CONFIDENCE:.0%}, {RESAMPLES} resamples"


#: Weights of cases in memory at once.
_CHUNK = 2_000_000


Key = TypeVar("Key", bound=Hashable)


#: One patient's score, or the scores of all of this patient's cases.
Values = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` patients with its 95% interval, and the ``method`` of the interval."""

    mean: float
    n: int
    low: float | None
    high: float | None
    method: str
    values: tuple[float, ...] = ()  #: per patient; only if there is no interval

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "mean": self.mean, "n": self.n, "low": self.low, "high": self.high,
            "method": self.method,
        }  # fmt: skip
        return body | {"values": list(self.values)} if self.values else body


def patient_means(values_by_patient: Mapping[str, Values]) -> dict[str, float]:
    """The mean over the cases of each patient, sorted by patient.

    >>> from medtl.evaluation.intervals import patient_means
    >>> patient_means({"p2": 0.75, "p1": [0.25, 0.75]})
    {'p1': 0.5, 'p2': 0.75}

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
    share: bool = False,
) -> Interval:
    """The mean over patients and its 95% interval.

    Args:
        values_by_patient: a score, or the scores of several cases that are averaged first.
        bounds: the range of the metric; ``(0, math.inf)`` for a distance.
        seed: of the bootstrap. The order of the patients does not matter.
        share: whether every case is a hit or a miss, so that the mean is a share of them.
    """
    values = np.array(list(patient_means(values_by_patient).values()))
    if len(values) < FEWEST_FOR_BOOTSTRAP or _are_equal(values):
        return _of_mean(values, bounds, share)
    low, high = _bca_of_mean(values, seed)
    return Interval(float(values.mean()), len(values), low, high, _BCA)


def _of_mean(values: NDArray[np.float64], bounds: tuple[float, float], share: bool) -> Interval:
    """Student-t, where there are enough values and they differ."""
    mean, n = float(values.mean()), len(values)
    if n < FEWEST_FOR_INTERVAL:
        method = f"values listed (n < {FEWEST_FOR_INTERVAL})"
        return Interval(mean, n, None, None, method, tuple(values.tolist()))
    if _are_equal(values):
        return _of_equal(mean, n, bounds) if share else Interval(mean, n, None, None, _EQUAL)
    return _student_t(mean, n, float(values.std(ddof=1)), n, bounds)


def _are_equal(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, abs(values.mean())))


def paired_difference(
    a: Mapping[str, Values],
    b: Mapping[str, Values],
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
    share: bool = False,
) -> Interval:
    """The mean of ``a - b`` within each patient, with its Student-t interval.

    Not with a bootstrap, from however many patients on: where an arm misses a lesion now and then,
    BCa excludes 0 in 13% of the comparisons of equal arms (``examples/studies/verdicts.py``).

    ``bounds`` is the range of the difference; ``(-math.inf, math.inf)`` for distances. ``share``:
    as in :func:`interval`, of both sides.

    Raises:
        DataError: ``a`` and ``b`` are not of the same patients.
    """
    if a.keys() != b.keys():
        odd = ", ".join(sorted(a.keys() ^ b.keys())[:3])
        raise DataError(f"only one of the two sides has patient {odd}; compare the same patients")
    mean_a, mean_b = patient_means(a), patient_means(b)
    differences = np.array([mean_a[p] - mean_b[p] for p in mean_a])
    return _of_mean(differences, bounds, share)


def set_intervals(
    statistic: Callable[[NDArray[np.float64]], Mapping[Key, NDArray[np.float64]]],
    patients: Sequence[str],
    bounds: Mapping[Key, tuple[float, float]],
    deciders: Mapping[Key, int],
    *,
    shares: Collection[Key] = (),
    seed: int = 0,
) -> dict[Key, Interval]:
    """Scores of a whole set of cases, each with its 95% interval over patients.

    Args:
        statistic: weights of the cases (weights_RN) -> score -> its values_R; NaN: undefined.
        patients: the patient of each case (N).
        deciders: the number of patients that each score depends on, its ``n``.
        shares: scores that are a share of these patients, and so a mean over them.
    """
    names, case_of = np.unique(np.asarray(patients), return_inverse=True)
    count = len(names)

    def evaluated(weights_RP: Iterator[NDArray[np.float64]]) -> dict[Key, NDArray[np.float64]]:
        parts = [statistic(chunk_RP[:, case_of]) for chunk_RP in weights_RP]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    rows = max(1, _CHUNK // len(patients))
    whole = evaluated(iter([np.ones((1, count))]))
    without = evaluated(_chunks(1 - np.eye(count), rows)) if count > 1 else {}
    drawn: dict[Key, NDArray[np.float64]] = {}
    if any(n >= FEWEST_FOR_BOOTSTRAP for n in deciders.values()):
        random = np.random.default_rng(seed)
        times = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        drawn = evaluated(_chunks(times.astype(np.float64), rows))
    return {
        key: _set_interval(
            float(whole[key][0]), n, without.get(key), drawn.get(key), bounds[key], key in shares
        )
        for key, n in deciders.items()
    }


def _chunks(weights_RP: NDArray[np.float64], rows: int) -> Iterator[NDArray[np.float64]]:
    return (weights_RP[start : start + rows] for start in range(0, len(weights_RP), rows))


def _set_interval(
    score: float,
    n: int,
    without: NDArray[np.float64] | None,
    drawn: NDArray[np.float64] | None,
    bounds: tuple[float, float],
    share: bool,
) -> Interval:
    """``without``: the score without each patient in turn; ``drawn``: of each resample."""
    if n < FEWEST_FOR_INTERVAL or without is None or not math.isfinite(score):
        few = f"no interval (fewer than {FEWEST_FOR_INTERVAL} patients decide it)"
        return Interval(score, n, None, None, few)
    replicates = drawn if n >= FEWEST_FOR_BOOTSTRAP and drawn is not None else without
    defined = replicates[np.isfinite(replicates)]
    jackknife = without[np.isfinite(without)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(replicates) or len(jackknife) < len(without):
        return Interval(score, n, None, None, "no interval (undefined without a few patients)")
    if np.ptp([*defined, score]) <= 1e-12 * max(1.0, abs(score)):
        return _of_equal(score, n, bounds) if share else Interval(score, n, None, None, _EQUAL)
    if replicates is without:
        patients, squares = len(jackknife), float(((jackknife - jackknife.mean()) ** 2).sum())
        error = math.sqrt((patients - 1) / patients * squares)
        return _student_t(score, n, error, 1, bounds, " on the jackknife by patient")
    low, high = bca(score, defined, jackknife)
    # Every resample may lie above a score that chance enlarges (calibration error).
    return Interval(score, n, min(low, score), max(high, score), _BCA)


def _of_equal(value: float, n: int, bounds: tuple[float, float]) -> Interval:
    """The interval of a share if all ``n`` patients have the same value.

    A share within ``bounds`` reaches their end with a probability of at most its mean's share of
    the range, and all n of them with at most the n-th power: the limits of Clopper and Pearson.
    """
    end = next((bound for bound in bounds if math.isclose(value, bound, abs_tol=1e-9)), None)
    lowest, highest = bounds
    if end is None or not math.isfinite(highest - lowest):
        return Interval(value, n, None, None, _EQUAL)
    reach = (highest - lowest) * (1 - ((1 - CONFIDENCE) / 2) ** (1 / n))
    low, high = (end, end + reach) if end == lowest else (end - reach, end)
    method = f"Clopper-Pearson {CONFIDENCE:.0%}, as all values are {end:g}"
    return Interval(end, n, low, high, method)


def bca(
    score: float, drawn: NDArray[np.float64], without: NDArray[np.float64]
) -> tuple[float, float]:
    """The BCa limits (Efron 1987) from bootstrap replicates and jackknife values."""
    from scipy.stats import norm

    tie = 1e-12 * max(1.0, abs(score))  # smaller differences are rounding
    below = (np.mean(drawn < score - tie) + np.mean(drawn <= score + tie)) / 2
    edge = 1 / (2 * len(drawn))
    bias = float(norm.ppf(np.clip(below, edge, 1 - edge)))
    influence = without.mean() - without
    spread = float((influence**2).sum()) ** 1.5
    skew = float((influence**3).sum()) / (6 * spread) if spread else 0.0
    limits = []
    for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        shift = bias + float(norm.ppf(share))
        limits.append(float(norm.cdf(bias + shift / (1 - skew * shift))))
    low, high = np.quantile(drawn, limits)
    return float(low), float(high)


def _student_t(
    score: float, n: int, deviation: float, count: int, bounds: tuple[float, float], basis: str = ""
) -> Interval:
    """Student-t with ``n`` - 1 degrees of freedom and the error ``deviation`` / sqrt(``count``)."""
    from scipy.stats import t

    lowest, highest = bounds
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(count)
    method = f"Student-t {CONFIDENCE:.0%}{basis}, clipped to [{lowest:g}, {highest:g}]"
    return Interval(score, n, max(score - half, lowest), min(score + half, highest), method)


def _bca_of_mean(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """:func:`bca` by SciPy, whose limits of a mean differ in the last digits."""
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
