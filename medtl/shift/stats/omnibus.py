"""Several domains at once: one omnibus test whether any differs from the rest; pairs are described.

Axes: G group (site or part), P patient, U unit, R permutation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from medtl.errors import ConfigError
from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.stats.metric_result import SAME, MetricResult, p_value, same, scored, standardised
from medtl.shift.stats.permutations import ALPHA

PAIR_NOTE = "descriptive, not tested"


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group each unit belongs to; a patient belongs to one (see duplicates.screen_images)."""

    names: tuple[str, ...]
    group_U: NDArray[np.intp]
    patient_U: NDArray[np.intp]

    @property
    def patients_G(self) -> NDArray[np.intp]:
        return np.bincount(self._group_P, minlength=len(self.names))

    @property
    def _group_P(self) -> NDArray[np.intp]:
        group_P = np.zeros(int(self.patient_U.max()) + 1, dtype=np.intp)
        group_P[self.patient_U] = self.group_U
        return group_P

    def floor(self, draws: int) -> float:
        """The smallest p that ``draws`` random permutations can give. Exchanging groups of one size
        changes nothing."""
        sizes = self.patients_G.tolist()
        distinct = factorial(sum(sizes)) // prod(map(factorial, sizes))
        alike = prod(factorial(count) for count in Counter(sizes).values())
        return max(1 / (draws + 1), alike / distinct)

    def drawn(self, draws: int, seed: int) -> NDArray[np.intp]:
        """Group of each unit (RU) after permuting whole patients."""
        group_P = self._group_P
        random = np.random.default_rng(seed)
        drawn_RP = random.permuted(np.tile(group_P, (draws, 1)), axis=1)
        return np.asarray(drawn_RP[:, self.patient_U])


def group_units(names_U: tuple[str, ...], patient_U: NDArray[np.intp], what: str) -> Groups:
    """Raises ConfigError for fewer than two groups."""
    names = tuple(sorted(set(names_U)))
    if len(names) < 2:
        raise ConfigError(f"--across {what}: one alone is left; two or more are needed")
    group_U = np.array([names.index(name) for name in names_U], dtype=np.intp)
    return Groups(names, group_U, patient_U)


def omnibus(
    metric: ShiftMetric, scorer: Scorer, groups: Groups, draws: int, seed: int
) -> MetricResult:
    """Does any group differ from the rest? The mean of ``metric`` between each group of two or more
    patients and all others, weighted by its patients, against permuted patients."""
    patients_G = groups.patients_G
    counted = np.flatnonzero((patients_G > 1) & (patients_G.sum() - patients_G > 1))
    if not metric.tested:
        return MetricResult(note=metric.warning)
    if not len(counted):
        return MetricResult(note="undefined: no group of two patients has two others beside it")
    weights = patients_G[counted] / patients_G[counted].sum()

    def total(group_RU: NDArray[np.intp]) -> NDArray[np.float64]:
        parts = [scored(scorer, group_RU == g, group_RU != g) for g in counted]
        return np.asarray(weights @ np.array(parts))

    value = float(total(groups.group_U[None])[0])
    null_R = total(groups.drawn(draws, seed))
    if not np.isfinite([value, *null_R]).all():
        return MetricResult(note="undefined on these features")
    if same(value, null_R):
        return MetricResult(value, note=SAME)
    low, high = np.quantile(null_R, (0.025, 0.975))
    floor = groups.floor(draws)
    p = max(p_value(value, null_R, exhaustive=False), floor)
    few = f"cannot be significant with so few patients: the least p is {floor:.2g}"
    note = "" if floor <= ALPHA else few
    return MetricResult(
        value, float(low), float(high), None, None, p, floor, None, None, note,
        standardised(value, null_R),
    )  # fmt: skip


def pair(scorer: Scorer, groups: Groups, a: int, b: int) -> MetricResult:
    """The value between two groups, not tested."""
    source_U, target_U = groups.group_U == a, groups.group_U == b
    value = float(scored(scorer, source_U[None], target_U[None])[0])
    if not np.isfinite(value):
        return MetricResult(note="undefined: one patient on a side")
    return MetricResult(value, note=PAIR_NOTE)


def pairs(groups: Groups) -> list[tuple[int, int]]:
    return list(combinations(range(len(groups.names)), 2))
