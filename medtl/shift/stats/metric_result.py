"""From rows and sides to values, null bands, p-values, effects and intervals; all by patient.

Axes: N row, U unit, P patient, R permutation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.stats.permutations import ALPHA, Design, Permutations, design_of

#: Random halves per domain that the effect compares with.
HALVES = 100


#: Values that differ by less than this share of the largest are ties: sums round differently.
TIE = 1e-9


IDENTICAL = "identical: the same images on both sides; not tested"


SAME = "no p-value: the value is the same however the patients are divided"


NEAR_ZERO = "interval invalid near zero"


#: FeatureExtractor are scaled to deviation 1: differences as small as this are rounding.
ROUNDING = 1e-12


#: Permutations scored at once hold at most so many unit memberships.
CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which units make the source and the target of one comparison."""

    source_U: NDArray[np.bool_]
    target_U: NDArray[np.bool_]
    patient_U: NDArray[np.intp]

    @property
    def units(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.intp]]:
        return self.source_U, self.target_U, self.patient_U

    @property
    def design(self) -> Design:
        return design_of(*self.units)

    @property
    def n_source(self) -> int:
        return len(np.unique(self.patient_U[self.source_U]))

    @property
    def n_target(self) -> int:
        return len(np.unique(self.patient_U[self.target_U]))

    @property
    def identical(self) -> bool:
        return bool((self.source_U == self.target_U).all())


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric on one comparison; None where it could not be computed, and ``note`` says why."""

    value: float | None = None
    null_low: float | None = None  #: 2.5 and 97.5% of the values under other permutations
    null_high: float | None = None
    low: float | None = None  #: 95% jackknife interval by patient
    high: float | None = None
    p: float | None = None
    p_floor: float | None = None  #: the smallest p that these patients and draws could give
    p_adjusted: float | None = None
    effect: float | None = None  #: value over its mean between random halves of one domain
    note: str = ""
    #: values under all permutations, standardised, for max-T; the observed one's first
    standard_R: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    exhaustive: bool = False  #: whether those are all there are


def evaluate_metric(
    metric: ShiftMetric,
    scorer: Scorer,
    sides: Comparison,
    permutations: Permutations,
    seed: int = 0,
) -> MetricResult:
    """Value, null band, p, effect and interval of ``metric``, whose prepared ``scorer`` it is."""
    if sides.identical and metric.tested:
        return MetricResult(metric.no_shift_value, note=IDENTICAL)
    value = float(scored(scorer, sides.source_U[None], sides.target_U[None])[0])
    if not math.isfinite(value):
        few = "source" if sides.n_source < 2 else "target"
        note = f"undefined: the {few} domain has one patient, two are the least"
        if min(sides.n_source, sides.n_target) > 1:
            note = "undefined on these features"
        return MetricResult(note=note)
    if not metric.tested:
        return MetricResult(value, note=metric.warning)
    null_R = scored(scorer, *permutations.sides(*sides.units))
    if sides.design.permutations <= 2 and min(sides.n_source, sides.n_target) < 2:
        return MetricResult(
            value, note="no p-value: one patient cannot be tested, two are the least"
        )
    # Halves of a domain are no yardstick where no shift is not 0.
    effect = _effect(scorer, sides, value, seed) if metric.no_shift_value == 0 else None
    notes = [metric.warning] if metric.warning else []
    if not np.isfinite(null_R).all():
        notes.append("no p-value: undefined for some ways of dividing the patients")
        return MetricResult(value, effect=effect, note="; ".join(notes))
    if same(value, null_R):
        return MetricResult(value, effect=effect, note="; ".join([*notes, SAME]))
    p = p_value(value, null_R, permutations.exhaustive)
    null_low, null_high = np.quantile(null_R, (0.025, 0.975))
    floor = sides.design.floor(len(null_R))
    if floor > ALPHA:
        least = f"the least p is {floor:.2g}, it would take {sides.design.enough()}"
        notes.append(f"cannot be significant with so few patients: {least}")
    low, high = _jackknife(scorer, sides, value) if metric.jackknife else (None, None)
    if low is not None and (p > ALPHA or low <= 0):
        # Near zero the estimate is no longer close to normal (degenerate U-statistic).
        low = high = None
        notes.append(NEAR_ZERO)
    return MetricResult(
        value,
        float(null_low),
        float(null_high),
        low,
        high,
        p,
        floor,
        None,
        effect,
        "; ".join(notes),
        standardised(value, null_R),
        permutations.exhaustive,
    )


def same(value: float, null_R: NDArray[np.float64]) -> bool:
    """Whether no permutation changes the value: there is nothing to test then."""
    return bool(np.ptp([value, *null_R]) <= max(ROUNDING, TIE * abs(value)))


def standardised(value: float, null_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """The observed value and those of the permutations in deviations from the latter's mean."""
    deviation = max(float(null_R.std()), ROUNDING)
    return np.asarray((np.concatenate([[value], null_R]) - null_R.mean()) / deviation)


def p_value(value: float, null_R: NDArray[np.float64], exhaustive: bool) -> float:
    """Share of permutations with a value as large: of all, or (b + 1) / (n + 1) of random ones
    (Phipson and Smyth 2010)."""
    tolerance = max(ROUNDING, TIE * max(abs(value), float(np.abs(null_R).max())))
    as_large = int((null_R >= value - tolerance).sum())
    if exhaustive:
        return as_large / len(null_R)
    return (as_large + 1) / (len(null_R) + 1)


def adjust(outcomes: Sequence[MetricResult]) -> list[MetricResult]:
    """The outcomes with p-values corrected for there being so many (max-T, Westfall and Young
    1993): each against the largest standardised value of all, permutation by permutation."""
    tested = [outcome for outcome in outcomes if outcome.standard_R.size]
    if not tested:
        return list(outcomes)
    largest_R = np.max([outcome.standard_R[1:] for outcome in tested], axis=0)
    exhaustive = tested[0].exhaustive  # all share the permutations
    return [
        replace(outcome, p_adjusted=p_value(float(outcome.standard_R[0]), largest_R, exhaustive))
        if outcome.standard_R.size
        else outcome
        for outcome in outcomes
    ]


def scored(
    scorer: Scorer, source_RU: NDArray[np.bool_], target_RU: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The scorer's values, a bounded number of permutations at a time."""
    rows = max(1, CHUNK // source_RU.shape[1])
    parts = [
        scorer(source_RU[start : start + rows], target_RU[start : start + rows])
        for start in range(0, len(source_RU), rows)
    ]
    return np.concatenate(parts)


def _effect(scorer: Scorer, sides: Comparison, value: float, seed: int) -> float | None:
    """``value`` over the mean size of the same metric between random halves of a domain's patients,
    over both domains; None where neither has four patients."""
    random = np.random.default_rng(seed)
    sizes: list[float] = []
    for members_U in (sides.source_U, sides.target_U):
        patients = np.unique(sides.patient_U[members_U])
        if len(patients) < 4:
            continue
        half_RP = np.zeros((HALVES, int(sides.patient_U.max()) + 1), dtype=bool)
        order_RP = random.permuted(np.tile(patients, (HALVES, 1)), axis=1)
        np.put_along_axis(half_RP, order_RP[:, : len(patients) // 2], True, axis=1)
        first_RU = half_RP[:, sides.patient_U] & members_U
        values_R = scored(scorer, first_RU, members_U & ~first_RU)
        sizes += np.abs(values_R[np.isfinite(values_R)]).tolist()
    typical = float(np.mean(sizes)) if sizes else 0.0
    return value / typical if typical > 0 else None


def _without_each(
    scorer: Scorer, sides: Comparison, patients: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The value without each of ``patients``."""
    few = max(1, CHUNK // len(sides.patient_U))
    parts = []
    for start in range(0, len(patients), few):
        left_RU = sides.patient_U != patients[start : start + few, None]
        parts.append(scorer(sides.source_U & left_RU, sides.target_U & left_RU))
    return np.concatenate(parts)


def _jackknife(
    scorer: Scorer, sides: Comparison, value: float
) -> tuple[float | None, float | None]:
    """Student-t 95% interval on the delete-one-patient jackknife; the domains' variances add where
    no patient lies in both."""
    from scipy.stats import t

    in_U = sides.source_U | sides.target_U
    patients = np.unique(sides.patient_U[in_U])
    without_P = _without_each(scorer, sides, patients)
    if not np.isfinite(without_P).all():
        return None, None
    in_source_P = np.isin(patients, sides.patient_U[sides.source_U])
    in_target_P = np.isin(patients, sides.patient_U[sides.target_U])
    variance, freedom = 0.0, 0
    for group_P in (
        in_source_P & in_target_P,
        in_source_P & ~in_target_P,
        in_target_P & ~in_source_P,
    ):
        n = int(group_P.sum())
        if n > 1:
            spread = without_P[group_P]
            variance += (n - 1) / n * float(((spread - spread.mean()) ** 2).sum())
            freedom += n - 1
    if not freedom:
        return None, None
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return value - half, value + half
