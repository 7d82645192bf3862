"""One omnibus test for several domains: does any differ from the rest? Pairs are not tested.

Axes: G group (site or part), P patient, U unit, R permutation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from medtl.errors import ConfigError
from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.stats.metric_result import MetricResult, permutation_result, score_in_chunks

PAIR_NOTE = "descriptive, not tested"


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each unit. A patient is in one group only (see ``images.duplicates``)."""

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
        """The smallest p that ``draws`` random permutations can give.

        Exchanging groups of equal size changes nothing.
        """
        sizes = self.patients_G.tolist()
        distinct = factorial(sum(sizes)) // prod(map(factorial, sizes))
        equivalent = prod(factorial(count) for count in Counter(sizes).values())
        return max(1 / (draws + 1), equivalent / distinct)

    def permuted(self, draws: int, seed: int) -> NDArray[np.intp]:
        """The group of each unit (RU) after permuting whole patients."""
        group_P = self._group_P
        random = np.random.default_rng(seed)
        permuted_RP = random.permuted(np.tile(group_P, (draws, 1)), axis=1)
        return np.asarray(permuted_RP[:, self.patient_U])


def group_units(names_U: tuple[str, ...], patient_U: NDArray[np.intp], what: str) -> Groups:
    """Number the groups. Raises ConfigError for fewer than two."""
    names = tuple(sorted(set(names_U)))
    if len(names) < 2:
        raise ConfigError(f"--across {what}: only one {what} is left; name two or more")
    group_U = np.array([names.index(name) for name in names_U], dtype=np.intp)
    return Groups(names, group_U, patient_U)


def omnibus(
    metric: ShiftMetric, scorer: Scorer, groups: Groups, draws: int, seed: int
) -> MetricResult:
    """Test whether any group differs from the rest.

    The statistic is the mean of ``metric`` between each group of two or more patients and all
    others, weighted by the group's number of patients. Patients are permuted between groups.
    """
    patients_G = groups.patients_G
    counted = np.flatnonzero((patients_G > 1) & (patients_G.sum() - patients_G > 1))
    if not metric.tested:
        return MetricResult(note=metric.warning)
    if not len(counted):
        return MetricResult(note="undefined: it needs a group of two patients and two others")
    weights = patients_G[counted] / patients_G[counted].sum()

    def total(group_RU: NDArray[np.intp]) -> NDArray[np.float64]:
        parts = [score_in_chunks(scorer, group_RU == g, group_RU != g) for g in counted]
        return np.asarray(weights @ np.array(parts))

    value = float(total(groups.group_U[None])[0])
    null_R = total(groups.permuted(draws, seed))
    if not np.isfinite([value, *null_R]).all():
        return MetricResult(note="undefined on these features")
    result = permutation_result(value, null_R, False, groups.floor(draws))
    if result.p is None or result.p_floor is None:
        return result
    return replace(result, p=max(result.p, result.p_floor))


def pair(scorer: Scorer, groups: Groups, a: int, b: int) -> MetricResult:
    """The value between two groups, without a test."""
    source_U, target_U = groups.group_U == a, groups.group_U == b
    value = float(score_in_chunks(scorer, source_U[None], target_U[None])[0])
    if not np.isfinite(value):
        return MetricResult(note="undefined: a group has one patient")
    return MetricResult(value, note=PAIR_NOTE)


def pairs(groups: Groups) -> list[tuple[int, int]]:
    return list(combinations(range(len(groups.names)), 2))
