"""Planned numbers of patients and seeds, against scipy's noncentral t and simulated tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from medtl.errors import DataError
from medtl.evaluation.comparison.effects import Effect, paired_effect
from medtl.evaluation.comparison.patients_needed import (
    patients_for_difference,
    patients_for_width,
    seeds_for_difference,
)

#: So many patients that the pilot's spread is known.
KNOWN = Effect(0.0, 10**10, 3, -0.1, 0.1, 1.0, 0.1, 10.0, 0.1, 0.02, 0.08, "")
ONE_RUN = replace(KNOWN, runs=1, run_sd=None, residual_sd=None)


def error_and_df(effect: Effect, patients: int, seeds: int) -> tuple[float, float]:
    """One test set: the mean squares to expect, and Satterthwaite's degrees of freedom."""
    rest = effect.residual_sd**2
    of_patients = rest + seeds * effect.patient_sd**2
    of_runs = rest + patients * effect.run_sd**2
    free = patients - 1
    below = of_patients**2 / free + of_runs**2 / (seeds - 1) + rest**2 / (free * (seeds - 1))
    total = of_patients + of_runs - rest
    return (total / (patients * seeds)) ** 0.5, min(total**2 / below, free)


def power(effect: Effect, difference: float, patients: int, seeds: int, level=0.05) -> float:
    error, df = error_and_df(effect, patients, seeds)
    return float(stats.nct.sf(stats.t.isf(level / 2, df), df, difference / error))


@pytest.mark.parametrize(("difference", "seeds", "asked"), [(0.05, 5, 0.8), (0.08, 3, 0.7)])
def test_advised_number_is_the_smallest_with_the_power(difference, seeds, asked) -> None:
    found = patients_for_difference(KNOWN, difference, seeds, asked)
    enough = [power(KNOWN, difference, n, seeds) >= asked for n in range(5, found + 1)]
    assert enough == [False] * (len(enough) - 1) + [True]
    assert patients_for_difference(KNOWN, -difference, seeds, asked) == found
    stricter = patients_for_difference(KNOWN, difference, seeds, asked, level=0.04)
    assert power(KNOWN, difference, stricter, seeds, level=0.04) >= asked
    assert stricter > found


def test_advised_number_has_the_power_in_simulated_tables() -> None:
    seeds, difference = 5, 0.06
    patients = patients_for_difference(KNOWN, difference, seeds)
    random = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        table_PS = random.normal(difference, 0.1, (patients, 1)) + random.normal(0, 0.02, seeds)
        table_PS += random.normal(0, 0.08, (patients, seeds))
        a = {(0, seed): dict(enumerate(table_PS[:, seed])) for seed in range(seeds)}
        b = {key: dict.fromkeys(scores, 0.0) for key, scores in a.items()}
        found += paired_effect(a, b).low > 0
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_many_runs_add_no_degrees_of_freedom_to_those_of_the_patients() -> None:
    noisy = replace(KNOWN, run_sd=0.1, residual_sd=0.02)
    found = patients_for_difference(noisy, 0.15, 10)
    assert error_and_df(noisy, found, 10)[1] == found - 1
    assert power(noisy, 0.15, found, 10) >= 0.8 > power(noisy, 0.15, found - 1, 10)


def test_width_is_reached_by_the_advised_number_and_not_by_one_less() -> None:
    found = patients_for_width(KNOWN, 0.1, 5)

    def width(patients: int) -> float:
        error, df = error_and_df(KNOWN, patients, 5)
        return 2 * float(stats.t.isf(0.025, df)) * error

    assert width(found) <= 0.1 < width(found - 1)


def test_small_pilots_advise_as_if_the_spread_were_its_upper_limit() -> None:
    pilot = replace(KNOWN, n=10)
    factor = 9 / float(stats.chi2.ppf(0.05, 9))
    spread = replace(KNOWN, patient_sd=0.1 * factor**0.5, residual_sd=0.08 * factor**0.5)
    found = patients_for_difference(pilot, 0.06, 5)
    assert power(spread, 0.06, found, 5) >= 0.8 > power(spread, 0.06, found - 1, 5)
    assert found > patients_for_difference(KNOWN, 0.06, 5)


def test_no_number_is_advised_where_the_noise_of_the_runs_alone_is_too_large() -> None:
    assert patients_for_difference(KNOWN, 0.02, 3) is None
    assert patients_for_width(KNOWN, 0.02, 3) is None
    assert patients_for_difference(replace(KNOWN, run_sd=0.0), 0.02, 3) is not None
    assert seeds_for_difference(KNOWN, 0.02, 20) is None


def test_a_power_that_is_reached_and_lost_again_is_found() -> None:
    """Of three runs alone the power is below that of some hundred patients."""
    noisy = replace(KNOWN, patient_sd=0.12, run_sd=0.027, residual_sd=0.158)
    most = max(power(noisy, 0.0684, n, 3) for n in range(5, 1000))
    asked = (most + power(noisy, 0.0684, 100_000, 3)) / 2
    assert power(noisy, 0.0684, 100_000, 3) < asked < most
    found = patients_for_difference(noisy, 0.0684, 3, asked)
    assert power(noisy, 0.0684, found, 3) >= asked > power(noisy, 0.0684, found - 1, 3)


def test_seeds_and_patients_are_planned_alike() -> None:
    found = seeds_for_difference(KNOWN, 0.05, 45)
    assert power(KNOWN, 0.05, 45, found) >= 0.8 > power(KNOWN, 0.05, 45, found - 1)
    assert found > 2
    assert patients_for_difference(KNOWN, 0.05, found) <= 45
    assert seeds_for_difference(KNOWN, 0.5, 45) == 2


def test_folds_share_the_patients_and_multiply_the_runs() -> None:
    """Five folds of 3 seeds are 15 runs, each of a fifth of the patients."""
    folds = replace(KNOWN, folds=5, runs=15)
    found = patients_for_difference(folds, 0.05, 3)

    def of_folds(patients: int) -> float:
        rest = 0.08**2
        of_patients, of_runs = rest + 3 * 0.1**2, rest + patients / 5 * 0.02**2
        free = patients - 5
        total = of_patients + of_runs - rest
        df = total**2 / (of_patients**2 / free + of_runs**2 / 10 + rest**2 / (free * 2))
        error = (0.1**2 / patients + 0.02**2 / 15 + rest / (3 * patients)) ** 0.5
        critical = stats.t.isf(0.025, min(df, free))
        return float(stats.nct.sf(critical, min(df, free), 0.05 / error))

    assert of_folds(found) >= 0.8 > of_folds(found - 1)


def test_one_seed_counts_the_noise_of_the_run() -> None:
    found = patients_for_difference(KNOWN, 0.1, 1)

    def of_one(patients: int) -> float:
        error = ((0.1**2 + 0.08**2) / patients + 0.02**2) ** 0.5
        return float(stats.nct.sf(stats.t.isf(0.025, patients - 1), patients - 1, 0.1 / error))

    assert of_one(found) >= 0.8 > of_one(found - 1)


@pytest.mark.parametrize(
    ("pilot", "complaint"),
    [
        (ONE_RUN, "does not tell training noise"),
        (replace(KNOWN, error=None, method="no interval (n < 5)"), r"no interval \(n < 5\)"),
    ],
)
def test_pilots_that_do_not_know_the_spread_are_refused(pilot: Effect, complaint: str) -> None:
    for plan in (patients_for_difference, patients_for_width):
        with pytest.raises(DataError, match=complaint):
            plan(pilot, 0.1, 3)
    with pytest.raises(DataError, match=complaint):
        seeds_for_difference(pilot, 0.1, 30)
