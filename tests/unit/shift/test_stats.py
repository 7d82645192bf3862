"""Permutations, p-values, intervals and effects, against enumeration by hand and scipy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medtl.shift.contract import ShiftMetric
from medtl.shift.stats.metric_result import (
    MetricResult,
    adjust,
    evaluate_metric,
    p_value,
)
from medtl.shift.stats.permutations import Comparison, Design, Permutations, draw_permutations


def mean_gap(values_U: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    """A scorer by hand: distance between the means of the sides' units."""

    def scorer(source_RU: NDArray[np.bool_], target_RU: NDArray[np.bool_]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            source_R = (source_RU * values_U).sum(1) / source_RU.sum(1)
            target_R = (target_RU * values_U).sum(1) / target_RU.sum(1)
        return np.abs(source_R - target_R)

    return scorer


METRIC = ShiftMetric("gap", lambda rows: mean_gap(np.zeros(1)), jackknife=True)


def paired(n: int) -> Comparison:
    source_U = np.arange(2 * n) % 2 == 0
    return Comparison(source_U, ~source_U, np.repeat(np.arange(n), 2))


def unpaired(n: int, m: int) -> Comparison:
    source_U = np.arange(n + m) < n
    return Comparison(source_U, ~source_U, np.arange(n + m))


def permutations(sides: Comparison, draws: int = 999) -> Permutations:
    return draw_permutations(sides, draws, seed=1)


@pytest.mark.parametrize(
    ("design", "count", "floor"),
    [
        (Design(6, 0, 0), 64, 2 / 64),
        (Design(5, 0, 0), 32, 2 / 32),
        (Design(0, 4, 4), 70, 2 / 70),
        (Design(0, 3, 5), 56, 1 / 56),
        (Design(2, 1, 1), 8, 2 / 8),
        (Design(2, 2, 1), 12, 1 / 12),
        (Design(20, 0, 0), 2**20, 1 / 1000),
    ],
)
def test_smallest_p_follows_from_the_number_of_arrangements(
    design: Design, count: int, floor: float
) -> None:
    assert design.permutations == count
    assert design.floor(999) == pytest.approx(floor)


def test_says_how_many_patients_it_would_take() -> None:
    assert Design(5, 0, 0).enough() == "6 patients in both domains"
    assert Design(0, 3, 3).enough() == "4 patients in each domain"
    assert Design(0, 1, 5).enough() == "2 patients of the source domain"
    assert Design(0, 2, 3).enough() == "4 patients in each domain"
    assert Design(4, 0, 1).enough() == "1 more patients in both domains"


def test_design_is_detected_by_patient() -> None:
    sides = paired(4)
    assert sides.design.name == "paired"
    assert unpaired(3, 4).design == Design(0, 3, 4)
    mixed = Comparison(
        np.array([True, False, True, False]),
        np.array([False, True, False, True]),
        np.array([0, 0, 1, 2]),
    )
    assert mixed.design == Design(1, 1, 1)
    assert mixed.design.name == "partly paired"


@pytest.mark.parametrize("sides", [paired(5), unpaired(4, 3)])
def test_every_arrangement_comes_once_and_keeps_the_sizes(sides: Comparison) -> None:
    made = permutations(sides)
    assert made.exhaustive
    source_RU, target_RU = made.apply(sides)
    assert len({row.tobytes() for row in source_RU}) == len(source_RU) == sides.design.permutations
    assert (source_RU.sum(1) == sides.source_U.sum()).all()
    assert not (source_RU & target_RU).any()
    assert (source_RU == sides.source_U).all(1).sum() == 1


def test_random_draws_move_whole_patients_of_a_partly_paired_design() -> None:
    # 12 patients in both domains (two source units, one target unit), 9 and 5 in one alone.
    patient_U = np.concatenate([np.repeat(np.arange(12), 3), np.arange(12, 26)])
    source_U = np.concatenate([np.tile([True, True, False], 12), np.arange(14) < 9])
    sides = Comparison(source_U, ~source_U, patient_U)
    made = permutations(sides)
    assert not made.exhaustive
    source_RU, target_RU = made.apply(Comparison(source_U, ~source_U, patient_U))
    assert (source_RU ^ target_RU).all()
    pairs_RPK = source_RU[:, :36].reshape(-1, 12, 3)
    assert (pairs_RPK[..., 0] == pairs_RPK[..., 1]).all()
    assert (pairs_RPK[..., 0] != pairs_RPK[..., 2]).all()
    assert (source_RU[:, 36:].sum(1) == 9).all()
    assert pairs_RPK[..., 0].mean() == pytest.approx(0.5, abs=0.02)
    assert source_RU[:, 36:].mean(0) == pytest.approx(9 / 14, abs=0.06)


def test_p_of_unpaired_patients_equals_scipys_exact_permutation_test() -> None:
    random = np.random.default_rng(3)
    values_U = random.normal(size=9) + np.arange(9) * 0.3
    sides = unpaired(4, 5)
    found = evaluate_metric(METRIC, mean_gap(values_U), sides, permutations(sides))
    expected = stats.permutation_test(
        (values_U[:4], values_U[4:]),
        lambda a, b: abs(a.mean() - b.mean()),
        alternative="greater",
        n_resamples=10_000,
    )
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p_floor == pytest.approx(1 / 126)


def test_p_of_paired_patients_equals_scipys_exact_sign_test() -> None:
    random = np.random.default_rng(4)
    values_U = random.normal(size=16) + 1.2 * (np.arange(16) % 2)
    sides = paired(8)
    found = evaluate_metric(METRIC, mean_gap(values_U), sides, permutations(sides))
    expected = stats.permutation_test(
        (values_U[::2], values_U[1::2]),
        lambda a, b: abs(a.mean() - b.mean()),
        permutation_type="samples",
        alternative="greater",
        n_resamples=10_000,
    )
    assert found.p == pytest.approx(expected.pvalue)


def test_p_of_random_draws_counts_the_observed_arrangement() -> None:
    assert p_value(2.0, np.array([1.0, 2.0, 3.0]), exhaustive=False) == 3 / 4
    assert p_value(9.0, np.array([1.0, 2.0, 3.0]), exhaustive=False) == 1 / 4
    assert p_value(3.0, np.array([1.0, 2.0, 3.0]), exhaustive=True) == 1 / 3


def test_max_t_corrects_against_the_largest_of_all_metrics() -> None:
    random = np.random.default_rng(0)
    standard = random.normal(size=(3, 201))
    standard[0, 0] = 4.0
    found = adjust([MetricResult(1.0, standard_R=row) for row in standard])
    largest = standard[:, 1:].max(0)
    for outcome, row in zip(found, standard, strict=True):
        assert outcome.p_adjusted == (1 + (largest >= row[0]).sum()) / 201
    assert adjust([MetricResult(note="withheld")])[0].p_adjusted is None


def test_jackknife_of_a_mean_difference_is_the_classical_standard_error() -> None:
    random = np.random.default_rng(5)
    values_U = random.normal(size=40) + 5.0 * (np.arange(40) % 2)
    gaps = values_U[1::2] - values_U[::2]
    found = evaluate_metric(METRIC, mean_gap(values_U), paired(20), permutations(paired(20)))
    half = stats.t.ppf(0.975, 19) * stats.sem(gaps)
    assert found.low == pytest.approx(gaps.mean() - half)
    assert found.high == pytest.approx(gaps.mean() + half)


def test_jackknife_of_two_independent_groups_adds_their_variances() -> None:
    random = np.random.default_rng(6)
    values_U = np.concatenate([random.normal(size=12), random.normal(8.0, 2.0, size=15)])
    sides = unpaired(12, 15)
    found = evaluate_metric(METRIC, mean_gap(values_U), sides, permutations(sides))
    error = np.hypot(stats.sem(values_U[:12]), stats.sem(values_U[12:]))
    half = stats.t.ppf(0.975, 25) * error
    assert found.low == pytest.approx(found.value - half)


def test_interval_near_zero_is_marked_invalid() -> None:
    values_U = np.random.default_rng(7).normal(size=40)
    found = evaluate_metric(METRIC, mean_gap(values_U), paired(20), permutations(paired(20)))
    assert found.p is not None and found.p > 0.05
    assert found.low is None
    assert "invalid" in found.note


def test_effect_compares_with_halves_of_one_domain() -> None:
    values_U = np.array([0.0, 1.0, 0.0, 1.0, 10.0, 11.0, 10.0, 11.0])
    sides = unpaired(4, 4)
    found = evaluate_metric(METRIC, mean_gap(values_U), sides, permutations(sides))
    gaps = [
        abs(values_U[list(half)].mean() - np.delete(values_U[:4], half).mean())
        for half in combinations(range(4), 2)
    ]
    assert found.value == pytest.approx(10.0)
    assert found.effect == pytest.approx(10.0 / np.mean(gaps), rel=0.25)


def test_one_patient_withholds_the_p_value_and_says_why() -> None:
    def scorer(source_RU: NDArray[np.bool_], target_RU: NDArray[np.bool_]) -> NDArray[np.float64]:
        few = (source_RU.sum(1) < 2) | (target_RU.sum(1) < 2)
        return np.where(few, np.nan, 1.0)

    sides = unpaired(1, 5)
    found = evaluate_metric(METRIC, scorer, sides, permutations(sides))
    assert found.p is None
    assert "one patient" in found.note


def test_a_value_that_never_changes_has_no_p() -> None:
    sides = unpaired(4, 4)
    found = evaluate_metric(METRIC, mean_gap(np.ones(8)), sides, permutations(sides))
    assert found.p is None
    assert "the same for all permutations" in found.note


def test_detected_design_needs_units_of_both_domains_of_a_patient() -> None:
    both = np.array([True, True])
    assert Comparison(both, both, np.array([0, 1])).design == Design(2, 0, 0)
