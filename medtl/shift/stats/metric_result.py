"""Values, permutation p-values, effects and intervals of one metric; all by patient.

Axes: N row, U unit, P patient, R permutation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.stats.permutations import ALPHA, Comparison, Design, Permutations

#: Random halves per domain that give the reference value of the effect.
HALVES = 100

#: Values that differ by less than this share of the largest are ties: sums round differently.
TIE = 1e-9

IDENTICAL = "identical: the same images in both domains; not tested"
SAME = "no p-value: the value is the same for all permutations"
NEAR_ZERO = "interval invalid near zero"

#: Features are scaled to standard deviation 1: smaller differences are rounding errors.
ROUNDING = 1e-12

#: Unit memberships (permutations times units) that are scored in one call.
CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of one comparison. None: not computed, for the reason in ``note``."""

    value: float | None = None
    null_low: float | None = None  #: 2.5% quantile of the values of the permutations
    null_high: float | None = None  #: 97.5% quantile
    low: float | None = None  #: 95% jackknife interval by patient
    high: float | None = None
    p: float | None = None  #: one-sided
    p_floor: float | None = None  #: the smallest p that these patients and permutations can give
    p_adjusted: float | None = None
    effect: float | None = None  #: value over the mean value between random halves of one domain
    note: str = ""
    #: standardised values for max-T, the observed one first, then those of the permutations
    standard_R: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    exhaustive: bool = False  #: whether these are all permutations


def evaluate_metric(
    metric: ShiftMetric,
    scorer: Scorer,
    comparison: Comparison,
    permutations: Permutations,
    seed: int = 0,
) -> MetricResult:
    """Value, null interval, p, effect and interval of a metric.

    Args:
        scorer: made by ``metric.prepare``.
        seed: of the random halves that the effect is relative to.
    """
    design = comparison.design
    if comparison.identical and metric.tested:
        return MetricResult(metric.no_shift_value, note=IDENTICAL)
    value = float(score_in_chunks(scorer, comparison.source_U[None], comparison.target_U[None])[0])
    if untested := _untested(metric, design, value):
        return untested
    null_R = score_in_chunks(scorer, *permutations.apply(comparison))
    # An effect needs a metric that is 0 without shift.
    effect = _effect(scorer, comparison, value, seed) if metric.no_shift_value == 0 else None
    if not np.isfinite(null_R).all():
        note = join_notes(metric.warning, "no p-value: undefined for some permutations")
        return MetricResult(value, effect=effect, note=note)
    result = permutation_result(value, null_R, permutations.exhaustive, design.floor(len(null_R)))
    notes = [metric.warning, result.note]
    if result.p is None or result.p_floor is None:
        return replace(result, effect=effect, note=join_notes(*notes))
    if result.p_floor > ALPHA:
        notes.append(f"p <= {ALPHA} needs {design.enough()}")
    low, high = _jackknife(scorer, comparison, value) if metric.jackknife else (None, None)
    if low is not None and (result.p > ALPHA or low <= 0):
        # Near zero the estimate is not close to normal (degenerate U-statistic).
        low = high = None
        notes.append(NEAR_ZERO)
    return replace(result, low=low, high=high, effect=effect, note=join_notes(*notes))


def join_notes(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(filter(None, notes))


def _untested(metric: ShiftMetric, design: Design, value: float) -> MetricResult | None:
    """The result if no test is possible, with the reason; otherwise None."""
    sizes = {"source": design.n_source, "target": design.n_target}
    few = min(sizes, key=lambda name: sizes[name] > 1)
    if not math.isfinite(value):
        if sizes[few] > 1:
            return MetricResult(note="undefined on these features")
        return MetricResult(note=f"undefined: the {few} domain has one patient, not two or more")
    if not metric.tested:
        return MetricResult(value, note=metric.warning)
    if design.permutations <= 2 and sizes[few] < 2:
        return MetricResult(value, note="no p-value: one patient; a test needs two or more")
    return None


def permutation_result(
    value: float, null_R: NDArray[np.float64], exhaustive: bool, floor: float
) -> MetricResult:
    """The value, its null interval and p, given the values of the permutations.

    ``floor``: the smallest possible p. Without p if all permutations have the same value.
    """
    if np.ptp([value, *null_R]) <= max(ROUNDING, TIE * abs(value)):
        return MetricResult(value, note=SAME)
    null_low, null_high = np.quantile(null_R, (0.025, 0.975))
    few = f"too few patients for a significant result: the smallest possible p is {floor:.2g}"
    deviation = max(float(null_R.std()), ROUNDING)
    return MetricResult(
        value,
        float(null_low),
        float(null_high),
        p=p_value(value, null_R, exhaustive),
        p_floor=floor,
        note=few if floor > ALPHA else "",
        standard_R=np.asarray((np.concatenate([[value], null_R]) - null_R.mean()) / deviation),
        exhaustive=exhaustive,
    )


def p_value(value: float, null_R: NDArray[np.float64], exhaustive: bool) -> float:
    """One-sided p: the share of permutations with a value at least as large.

    Random permutations give (b + 1) / (n + 1) (Phipson and Smyth 2010).
    """
    tolerance = max(ROUNDING, TIE * max(abs(value), float(np.abs(null_R).max())))
    as_large = int((null_R >= value - tolerance).sum())
    if exhaustive:
        return as_large / len(null_R)
    return (as_large + 1) / (len(null_R) + 1)


def adjust(results: Sequence[MetricResult]) -> list[MetricResult]:
    """Correct p for multiple testing by max-T (Westfall and Young 1993).

    Each result is compared with the largest standardised value of all results, permutation by
    permutation. All results share the permutations.
    """
    tested = [result for result in results if result.standard_R.size]
    if not tested:
        return list(results)
    largest_R = np.max([result.standard_R[1:] for result in tested], axis=0)
    exhaustive = tested[0].exhaustive
    return [
        replace(r, p_adjusted=p_value(float(r.standard_R[0]), largest_R, exhaustive))
        if r.standard_R.size
        else r
        for r in results
    ]


def score_in_chunks(
    scorer: Scorer, source_RU: NDArray[np.bool_], target_RU: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The scorer's values_R, computed for a bounded number of permutations per call."""
    rows = max(1, CHUNK // source_RU.shape[1])
    parts = [slice(start, start + rows) for start in range(0, len(source_RU), rows)]
    return np.concatenate([scorer(source_RU[part], target_RU[part]) for part in parts])


def _effect(scorer: Scorer, comparison: Comparison, value: float, seed: int) -> float | None:
    """``value`` over the mean absolute value between random halves of a domain's patients.

    The mean is over both domains; None if neither has four patients.
    """
    random = np.random.default_rng(seed)
    patient_U = comparison.patient_U
    sizes: list[float] = []
    for members_U in (comparison.source_U, comparison.target_U):
        patients = np.unique(patient_U[members_U])
        if len(patients) < 4:
            continue
        half_RP = np.zeros((HALVES, int(patient_U.max()) + 1), dtype=bool)
        order_RP = random.permuted(np.tile(patients, (HALVES, 1)), axis=1)
        np.put_along_axis(half_RP, order_RP[:, : len(patients) // 2], True, axis=1)
        first_RU = half_RP[:, patient_U] & members_U
        values_R = score_in_chunks(scorer, first_RU, members_U & ~first_RU)
        sizes += np.abs(values_R[np.isfinite(values_R)]).tolist()
    typical = float(np.mean(sizes)) if sizes else 0.0
    return value / typical if typical > 0 else None


def _jackknife(
    scorer: Scorer, comparison: Comparison, value: float
) -> tuple[float | None, float | None]:
    """Student-t 95% interval of the delete-one-patient jackknife.

    The variances of paired, source-only and target-only patients add.
    """
    from scipy.stats import t

    variances = jackknife_variances(scorer, comparison)
    design = comparison.design
    counts = design.paired, design.source_only, design.target_only
    freedom = sum(n - 1 for n in counts if n > 1)
    if not freedom or not np.isfinite(variances).all():
        return None, None
    half = float(t.ppf(0.975, freedom)) * math.sqrt(sum(variances))
    return value - half, value + half


def jackknife_variances(scorer: Scorer, comparison: Comparison) -> tuple[float, float, float]:
    """Delete-one-patient jackknife variances over paired, source-only and target-only patients.

    They add. NaN if the metric is undefined without some patient.
    """
    patient_U = comparison.patient_U
    patients = np.unique(patient_U[comparison.source_U | comparison.target_U])
    kept_PU = patient_U != patients[:, None]
    without_P = score_in_chunks(
        scorer, comparison.source_U & kept_PU, comparison.target_U & kept_PU
    )
    if not np.isfinite(without_P).all():
        return math.nan, math.nan, math.nan

    def variance(mask_P: NDArray[np.bool_]) -> float:
        spread = without_P[mask_P[patients]]
        n = len(spread)
        return (n - 1) / n * float(((spread - spread.mean()) ** 2).sum()) if n > 1 else 0.0

    paired_P, source_P, target_P = comparison.patients
    return variance(paired_P), variance(source_P), variance(target_P)
