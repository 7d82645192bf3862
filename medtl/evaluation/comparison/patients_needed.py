"""How many patients and seeds a comparison needs, from a pilot.

Power is that of the t test of :func:`~medtl.evaluation.comparison.effects.paired_effect`, from the
noncentral t distribution with the pilot's variance components. A pilot of few patients often holds
none of the rare failures and understates the spread, so that the spread of patients is taken at its
upper limit of confidence (Browne 1995, who suggests 80%, which is too little for Dice with misses:
``examples/studies/verdicts.py``). The spread of runs is as estimated: its upper limit from three
seeds would be several times as large, and no number of patients would be enough.

The plan has as many folds as the pilot, and ``seeds`` runs in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from medtl.errors import DataError
from medtl.evaluation.comparison.effects import LEVEL, Effect
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL

POWER = 0.8


#: How sure it is that the spread of patients is not larger than what is planned with.
CAUTION = 0.95


#: More of them are not searched for.
MOST_PATIENTS, MOST_SEEDS = 100_000, 100


def patients_for_width(effect: Effect, width: float, seeds: int) -> int | None:
    """The fewest patients for a 95% interval that is ``width`` wide, from low to high.

    Args:
        effect: the pilot.
        seeds: planned per fold. With one seed and one fold, the noise of the run is added as known.

    Returns:
        None: no number of patients is enough, as the noise of the runs alone is too large.

    Raises:
        DataError: a pilot without interval, or whose training noise is unknown.
    """
    from scipy.special import stdtrit

    plan = _plan(effect)

    def narrow(patients: int) -> bool:
        error, df = plan.error_and_df(patients, seeds)
        return 2 * float(stdtrit(df, 1 - LEVEL / 2)) * error <= width

    return _fewest(narrow, plan.fewest_patients, MOST_PATIENTS)


def patients_for_difference(
    effect: Effect, difference: float, seeds: int, power: float = POWER, level: float = LEVEL
) -> int | None:
    """The fewest patients with which a true ``difference`` is found with probability ``power``.

    Arguments, None and errors are those of :func:`patients_for_width`; ``level``: of the test.
    """
    plan = _plan(effect)

    def enough(patients: int) -> bool:
        return plan.power(difference, patients, seeds, level) >= power

    return _fewest(enough, plan.fewest_patients, MOST_PATIENTS)


def seeds_for_difference(
    effect: Effect, difference: float, patients: int, power: float = POWER, level: float = LEVEL
) -> int | None:
    """The fewest seeds per fold, from two on, that find a true ``difference`` in ``patients``.

    None: no number of seeds is enough, as the spread of the patients alone is too large. Errors as
    in :func:`patients_for_width`.
    """
    plan = _plan(effect)

    def enough(seeds: int) -> bool:
        return plan.power(difference, patients, seeds, level) >= power

    return _fewest(enough, 2, MOST_SEEDS)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The variance components of a comparison, and its number of folds."""

    patient: float
    run: float
    residual: float
    folds: int

    @property
    def fewest_patients(self) -> int:
        return max(FEWEST_FOR_INTERVAL, 2 * self.folds)

    def power(self, difference: float, patients: int, seeds: int, level: float) -> float:
        """The probability of an interval that excludes 0 on the side of ``difference``."""
        from scipy.special import nctdtr, stdtrit

        error, df = self.error_and_df(patients, seeds)
        return 1 - float(nctdtr(df, abs(difference) / error, stdtrit(df, 1 - level / 2)))

    def error_and_df(self, patients: int, seeds: int) -> tuple[float, float]:
        """The standard error to expect, and its degrees of freedom."""
        runs, members = self.folds * seeds, patients / self.folds
        variance = self.patient / patients + self.run / runs + self.residual / (patients * seeds)
        free = patients - self.folds
        if seeds == 1:
            return math.sqrt(variance), free if self.folds == 1 else self.folds - 1
        squares = (
            ((self.residual + seeds * self.patient) ** 2, free),
            ((self.residual + members * self.run) ** 2, runs - self.folds),
            (self.residual**2, free * (seeds - 1)),
        )
        uncertainty = sum(square / df for square, df in squares) / (patients * seeds) ** 2
        return math.sqrt(variance), min(variance**2 / uncertainty, free)


def _plan(effect: Effect) -> _Plan:
    """The components to plan with. A residual that is part of the patients' spread stays there."""
    from scipy.special import chdtri

    if effect.error is None or effect.patient_sd is None:
        raise DataError(f"the pilot has {effect.method}; nothing can be planned from it")
    if effect.run_sd is None:
        raise DataError(
            "the pilot does not tell training noise from patients; train two seeds or more"
        )
    free = effect.n - effect.folds
    caution = free / float(chdtri(free, CAUTION))
    residual = effect.residual_sd or 0.0
    return _Plan(
        caution * effect.patient_sd**2, effect.run_sd**2, caution * residual**2, effect.folds
    )


def _fewest(enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The smallest number from ``low`` to ``most`` that is enough.

    The search goes upwards in steps of a quarter: far above, power falls again a little where few
    runs decide, as then they decide alone and have fewer degrees of freedom.
    """
    high = low
    while not enough(high):
        if high >= most:
            return None
        low, high = high + 1, min(high + 1 + high // 4, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
