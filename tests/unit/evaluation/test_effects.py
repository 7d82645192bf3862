"""Differences over patients and training runs, against tables of variance worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from medtl.errors import DataError
from medtl.evaluation.comparison.effects import Effect, Runs, paired_effect

#: Effects of five patients, and the rest: added in one run, taken off in the other.
PATIENTS, REST = (-0.2, -0.1, 0.0, 0.1, 0.2), (0.01, -0.01, 0.02, -0.02, 0.0)


def runs_of(scores_PS: NDArray[np.float64], fold: int = 0) -> Runs:
    return {
        (fold, seed): {f"{fold}-{patient}": float(score) for patient, score in enumerate(column)}
        for seed, column in enumerate(scores_PS.T)
    }


def effect_of(*differences_FPS: NDArray[np.float64], **options) -> Effect:
    """The effect of arms with these differences, one table per fold."""
    a, b = {}, {}
    for fold, differences_PS in enumerate(differences_FPS):
        base_PS = np.linspace(0.2, 0.4, len(differences_PS))[:, None]
        a |= runs_of(base_PS + differences_PS, fold)
        b |= runs_of(base_PS + 0 * differences_PS, fold)
    return paired_effect(a, b, **options)


def two_runs(run: float, mean: float = 0.1) -> NDArray[np.float64]:
    patients_P, rest_P = np.array(PATIENTS), np.array(REST)
    return np.stack([mean + patients_P + run + rest_P, mean + patients_P - run - rest_P], axis=1)


def test_components_and_interval_are_those_of_the_table_of_variance() -> None:
    """Sums of squares: patients 2 x 0.1, runs 5 x 2 x 0.01, rest 2 x 0.001.

    Mean squares: 0.2 / 4 = 0.05, 0.1 / 1 = 0.1, 0.002 / 4 = 0.0005.
    """
    found = effect_of(two_runs(0.1))
    assert (found.n, found.runs, found.folds) == (5, 2, 1)
    assert found.mean == pytest.approx(0.1)
    assert found.patient_sd**2 == pytest.approx((0.05 - 0.0005) / 2)
    assert found.run_sd**2 == pytest.approx((0.1 - 0.0005) / 5)
    assert found.residual_sd**2 == pytest.approx(0.0005)
    assert found.error**2 == pytest.approx(0.01495)  # 0.02475 / 5 + 0.0199 / 2 + 0.0005 / 10
    assert found.df == pytest.approx(0.1495**2 / (0.05**2 / 4 + 0.1**2 / 1 + 0.0005**2 / 4))
    low, high = stats.t.interval(0.95, found.df, 0.1, math.sqrt(0.01495))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(2 * stats.t.sf(0.1 / math.sqrt(0.01495), found.df))
    assert "patients and training runs" in found.method


def test_negative_component_is_zero_and_its_uncertainty_still_counts() -> None:
    """The mean square of runs is 0, below that of the rest."""
    found = effect_of(two_runs(0.0))
    assert found.run_sd == 0
    assert found.error**2 == pytest.approx(0.05 / 10)
    assert found.df == pytest.approx(0.05**2 / (0.05**2 / 4 + 0 + 0.0005**2 / 4))


def test_patients_that_differ_less_than_the_rest_have_no_component() -> None:
    found = effect_of(two_runs(0.1) - np.array(PATIENTS)[:, None])
    assert found.patient_sd == 0
    assert found.error**2 == pytest.approx(0.0199 / 2 + 0.0005 / 10)


def test_runs_add_no_degrees_of_freedom_to_those_of_the_patients() -> None:
    """Mean squares 0.3 / 4 and 0.075 / 2 would have 0.1125^2 / (0.075^2 / 4 + 0.0375^2 / 2) = 6."""
    run = math.sqrt(0.0075)
    assert effect_of(np.add.outer(PATIENTS, [run, 0.0, -run])).df == pytest.approx(4)


def test_folds_may_have_different_numbers_of_runs() -> None:
    """Mean square of patients 0.5 / 8, each in 2.5 runs; of runs 0.2 / 3, each with 5 patients."""
    found = effect_of(*(np.add.outer(PATIENTS, runs) for runs in ([0.1, -0.1], [0.1, 0.0, -0.1])))
    patient, run = 0.5 / 8 / 2.5, 0.2 / 3 / 5
    assert (found.patient_sd**2, found.run_sd**2) == (pytest.approx(patient), pytest.approx(run))
    assert found.error**2 == pytest.approx(patient / 10 + run * (0.25 / 2 + 0.25 / 3))


def test_folds_are_pooled_and_their_means_do_not_count_as_spread() -> None:
    """The same mean squares with 8, 2 and 8 degrees of freedom."""
    found = effect_of(two_runs(0.1, mean=0.3), two_runs(-0.1, mean=-0.1))
    assert (found.n, found.runs, found.folds) == (10, 4, 2)
    assert found.mean == pytest.approx(0.1)
    assert found.patient_sd**2 == pytest.approx(0.02475)
    assert found.run_sd**2 == pytest.approx(0.0199)
    assert found.error**2 == pytest.approx(0.02475 / 10 + 0.0199 / 4 + 0.0005 / 20)
    assert found.df == pytest.approx(0.1495**2 / (0.05**2 / 8 + 0.1**2 / 2 + 0.0005**2 / 8))


def restricted_likelihood(
    differences_FPS: Sequence[NDArray[np.float64]],
) -> tuple[float, float, float]:
    """Components by REML (Patterson and Thompson 1971) on dense matrices; the mean of each fold is
    a fixed effect."""
    rows = [
        (fold, (fold, patient), (fold, run), value)
        for fold, table in enumerate(differences_FPS)
        for (patient, run), value in np.ndenumerate(table)
    ]
    y = np.array([row[-1] for row in rows])
    design, of_patient, of_run = (
        np.array(
            [[row[part] == level for level in dict.fromkeys(r[part] for r in rows)] for row in rows]
        ).astype(float)
        for part in range(3)
    )

    def loss(logs: NDArray[np.float64]) -> float:
        patient, run, rest = np.exp(logs)
        cov = patient * of_patient @ of_patient.T + run * of_run @ of_run.T + rest * np.eye(len(y))
        inner = design.T @ np.linalg.solve(cov, design)
        away = y - design @ np.linalg.solve(inner, design.T @ np.linalg.solve(cov, y))
        log_dets = np.linalg.slogdet(cov)[1] + np.linalg.slogdet(inner)[1]
        return float(log_dets + away @ np.linalg.solve(cov, away))

    tight = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 2000}
    found = optimize.minimize(loss, np.log([0.01, 0.01, 0.01]), method="Nelder-Mead", options=tight)
    return tuple(np.exp(found.x))


@pytest.mark.parametrize("folds", [1, 2])
def test_components_agree_with_restricted_maximum_likelihood(folds: int) -> None:
    random = np.random.default_rng(3)
    tables = [
        random.normal(0, 0.1, (6, 1))
        + random.normal(0, 0.1, (1, 3))
        + random.normal(0, 0.05, (6, 3))
        for _ in range(folds)
    ]
    found = effect_of(*tables, bounds=(-math.inf, math.inf))
    ours = [found.patient_sd**2, found.run_sd**2, found.residual_sd**2]
    assert ours == pytest.approx(restricted_likelihood(tables), rel=1e-3)


def test_one_run_is_the_paired_t_test_and_does_not_know_training_noise() -> None:
    random = np.random.default_rng(0)
    a_P, b_P = random.beta(8, 2, (2, 12))
    found = paired_effect(runs_of(a_P[:, None]), runs_of(b_P[:, None]))
    expected = stats.ttest_rel(a_P, b_P)
    assert (found.p, found.df) == (pytest.approx(expected.pvalue), 11)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.run_sd is None
    assert found.residual_sd is None
    assert "training noise unknown" in found.method


def test_folds_of_one_run_each_are_the_units() -> None:
    random = np.random.default_rng(1)
    tables = [0.3 * random.normal() + 0.1 * random.normal(size=(4, 1)) for _ in range(5)]
    found = effect_of(*tables, bounds=(-math.inf, math.inf))
    expected = stats.ttest_1samp([table.mean() for table in tables], 0)
    assert (found.n, found.runs, found.df) == (20, 5, 4)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    within = np.mean([table.var(ddof=1) for table in tables])
    between = np.var([table.mean() for table in tables], ddof=1)
    assert found.patient_sd**2 == pytest.approx(within)
    assert found.run_sd**2 == pytest.approx(between - within / 4)
    assert "over folds" in found.method


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_patient_per_fold_is_the_paired_t_test_over_patients(seeds: int) -> None:
    tables = np.random.default_rng(2).normal(0.02, 0.05, (9, 1, seeds))
    found = effect_of(*tables)
    expected = stats.ttest_1samp(tables.mean(axis=(1, 2)), 0)
    assert (found.p, found.df) == (pytest.approx(expected.pvalue), 8)
    assert found.run_sd is None


def test_every_patient_counts_once_however_often_its_fold_is_run() -> None:
    often, once = np.full((3, 3), 0.3), np.full((2, 1), 0.1)
    often[0] += 0.06
    assert effect_of(often, once).mean == pytest.approx((0.36 + 0.3 + 0.3 + 0.1 + 0.1) / 5)


def test_neither_order_of_runs_nor_of_patients_matters() -> None:
    a, b = runs_of(two_runs(0.1)), runs_of(0 * two_runs(0.1))
    turned = {key: dict(reversed(a[key].items())) for key in reversed(a)}
    assert paired_effect(turned, b) == paired_effect(a, b)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_five_patients_have_no_interval(seeds: int) -> None:
    found = effect_of(two_runs(0.1)[:4, :seeds])
    assert (found.low, found.high, found.p, found.error) == (None,) * 4
    assert found.method == "no interval (n < 5)"
    assert found.limits(0.1) is found.equivalence_p(0.1) is None


@pytest.mark.parametrize(
    ("tables", "method"),
    [
        ([np.full((6, 1), 0.1)], "no interval (all differences equal)"),
        ([np.full((6, 3), 0.1)], "no interval (all differences equal)"),
        ([np.array([[0.1], [0.2], [0.3]])] * 2, "no interval (all folds equal)"),
    ],
)
def test_without_spread_there_is_no_interval_and_no_failure(tables, method: str) -> None:
    found = effect_of(*tables)
    assert (found.low, found.high, found.p, found.df) == (None,) * 4
    assert found.method == method


def test_limits_at_other_levels_and_equivalence_are_two_sides_of_one_test() -> None:
    found = effect_of(two_runs(0.1, mean=0.02), bounds=(-math.inf, math.inf))
    assert found.limits(0.05) == (found.low, found.high)
    low, high = found.limits(0.1)
    assert found.low < low < high < found.high
    assert found.equivalence_p(max(-low, high)) == pytest.approx(0.05)
    one_sided = stats.t.sf((0.3 - 0.02) / found.error, found.df)
    assert found.equivalence_p(0.3) == pytest.approx(one_sided)
    assert effect_of(-two_runs(0.1, mean=0.02)).equivalence_p(0.3) == pytest.approx(one_sided)


def test_limits_are_clipped_to_the_range_of_the_difference() -> None:
    found = effect_of(two_runs(0.4))
    assert (found.low, found.high) == (-1.0, 1.0)
    free = effect_of(two_runs(0.4), bounds=(-math.inf, math.inf))
    assert free.low < -1
    assert free.high > 1


def test_the_interval_covers_runs_that_were_not_trained() -> None:
    """Of 300 normal tables of 20 patients and 3 runs; patients alone would cover about half."""
    random = np.random.default_rng(0)
    covered = alone = 0
    for _ in range(300):
        table_PS = random.normal(0, 0.05, (20, 1)) + random.normal(0, 0.02, (1, 3))
        table_PS += random.normal(0, 0.02, (20, 3))
        found = effect_of(table_PS)
        covered += found.low <= 0 <= found.high
        low, high = stats.t.interval(0.95, 19, found.mean, stats.sem(table_PS.mean(axis=1)))
        alone += low <= 0 <= high
    assert 0.92 <= covered / 300 <= 0.98
    assert alone / 300 < 0.9


def test_effect_is_written_as_json() -> None:
    body = effect_of(two_runs(0.1), bounds=(-math.inf, math.inf)).to_json()
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert body["runs"] == 2


GOOD = {(0, 0): {"p": 0.5, "q": 0.6}, (0, 1): {"p": 0.5, "q": 0.6}}

TWICE = {**GOOD, (1, 0): {"q": 0.5}}


@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        ({}, {}, "no run to compare"),
        (GOOD, {(0, 0): GOOD[0, 0]}, "only one arm has the run of fold 0, seed 1"),
        (GOOD, {**GOOD, (0, 1): {"p": 0.5}}, "patient q is in some of the runs"),
        ({**GOOD, (0, 1): {"p": 0.5}}, GOOD, "patient q is in some of the runs"),
        ({(0, 0): {}}, {(0, 0): {}}, "the run of fold 0, seed 0 has no patient"),
        (TWICE, TWICE, "patient q is in folds 0 and 1"),
        (GOOD, {**GOOD, (0, 1): {"p": 0.5, "q": math.nan}}, "patient q: a score is missing"),
    ],
)
def test_arms_that_cannot_be_paired_are_refused_in_one_line(a, b, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as refused:
        paired_effect(a, b)
    assert "\n" not in str(refused.value)
