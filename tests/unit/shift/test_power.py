"""Planned patients of the shift test, against closed forms and new cohorts.

With the linear kernel and one normal feature, MMD-squared is the squared difference of the means,
and the permutation test is the two-sided z test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from medtl.errors import DataError
from medtl.shift.contract import Rows
from medtl.shift.metrics.mmd import mmd, mmd_linear
from medtl.shift.report.power import ShiftPower
from medtl.shift.report.row import ShiftRow
from medtl.shift.stats.metric_result import p_value, score_in_chunks
from medtl.shift.stats.permutations import Comparison, Design, draw_permutations
from medtl.shift.stats.power import ShiftPilot, pilot_of

#: 95% quantile of a squared normal variable, in its standard deviations from its mean.
SQUARED_NORMAL = (chi2.ppf(0.95, 1) - 1) / math.sqrt(2)


def two_domains(n: int, m: int, *, paired: bool = False) -> Comparison:
    source_U = np.arange(n + m) < n
    patient_U = np.concatenate([np.arange(n), np.arange(m) + (0 if paired else n)])
    return Comparison(source_U, ~source_U, patient_U)


def rows_of(values_NF: NDArray[np.float64], comparison: Comparison) -> Rows:
    names = tuple(f"f/{n}" for n in range(values_NF.shape[1]))
    return Rows(values_NF, names, np.arange(len(values_NF)), comparison.patient_U)


def linear_pilot(
    values_NF: NDArray[np.float64], comparison: Comparison, seed: int = 0
) -> ShiftPilot:
    scorer = mmd_linear().prepare(rows_of(values_NF, comparison))
    return pilot_of(scorer, comparison, draw_permutations(comparison, 499, seed))


def components(drawn: Iterable[ShiftPilot]) -> tuple[float, float]:
    """Means of t and z over pilots."""
    pilots = list(drawn)
    z = np.mean([one.slope * one.shift for one in pilots])
    return float(np.mean([one.squares for one in pilots])), float(z)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (40, 40), (60, 30)])
def test_components_of_unpaired_domains(n: int, m: int) -> None:
    """Two features of variance 4, one of which differs by 4: t = 2 x 16, z = 16 x 4."""
    random, comparison = np.random.default_rng(n), two_domains(n, m)

    def drawn() -> NDArray[np.float64]:
        values_NF = random.normal(0, 2, (n + m, 2))
        values_NF[n:, 0] += 4
        return values_NF

    found = components(linear_pilot(drawn(), comparison, seed) for seed in range(150))
    assert found == pytest.approx((32, 64), rel=0.15)


@pytest.mark.parametrize("n", [20, 40])
def test_components_of_paired_domains(n: int) -> None:
    """The patients' differences have variance 2 x 1.5^2, and one mean of 2: t = 2 x 4.5^2, z = 18.

    What a patient has in both domains does not count.
    """
    random, comparison = np.random.default_rng(n), two_domains(n, n, paired=True)

    def drawn() -> NDArray[np.float64]:
        values_NF = random.normal(0, 1.5, (2 * n, 2)) + np.tile(random.normal(0, 5, (n, 2)), (2, 1))
        values_NF[n:, 0] += 2
        return values_NF

    found = components(linear_pilot(drawn(), comparison, seed) for seed in range(150))
    assert found == pytest.approx((2 * 4.5**2, 18), rel=0.15)


@pytest.mark.parametrize("difference", [0.4, 0.8])
@pytest.mark.parametrize("paired", [False, True])
def test_patients_are_those_of_the_two_sided_z_test(difference: float, paired: bool) -> None:
    """Variance 1 in each domain, 2 of the patients' differences."""
    variance = 2.0 if paired else 1.0
    design = Design(20, 0, 0) if paired else Design(0, 20, 20)
    one = ShiftPilot(difference**2, 0.01, design, variance**2, variance, SQUARED_NORMAL)
    quantiles = norm.ppf(0.975) + norm.ppf(0.8)
    # Beside unknown variances, which take about two more patients.
    assert one.patients(one.shift) == pytest.approx(2 * (quantiles / difference) ** 2, abs=3)
    smallest = one.smallest(one.equal(100))
    assert smallest is not None
    assert math.sqrt(smallest) == pytest.approx(quantiles * math.sqrt(2 / 100), rel=0.05)
    assert one.power(one.equal(100), smallest) == pytest.approx(0.8)


def test_power_of_new_cohorts() -> None:
    """Pilots of 30 patients tell the power of 15, on average; 400 new cohorts measure it."""
    random = np.random.default_rng(3)

    def drawn(n: int) -> tuple[Rows, Comparison]:
        values_NF = random.normal(size=(2 * n, 4))
        values_NF[n:, :2] += 0.9
        comparison = two_domains(n, n)
        return rows_of(values_NF, comparison), comparison

    planned = []
    for seed in range(40):
        rows, comparison = drawn(30)
        one = pilot_of(mmd().prepare(rows), comparison, draw_permutations(comparison, 199, seed))
        planned.append(one.power(Design(0, 15, 15), max(one.shift, 1e-6)))
    found = []
    for seed in range(400):
        rows, comparison = drawn(15)
        scorer, permutations = mmd().prepare(rows), draw_permutations(comparison, 199, seed)
        value = float(scorer(comparison.source_U[None], comparison.target_U[None])[0])
        null_R = score_in_chunks(scorer, *permutations.apply(comparison))
        found.append(p_value(value, null_R, permutations.exhaustive) <= 0.05)
    assert np.median(planned) == pytest.approx(np.mean(found), abs=0.08)


def test_interval_holds_the_shifts_that_agree_with_the_pilot() -> None:
    """The pilot's value lies 1.96 standard deviations from either end."""
    one = ShiftPilot(0.64, 0.001, Design(0, 30, 30), 1.0, 1.0, SQUARED_NORMAL)
    for end in one.interval():
        second = 2 * 2 / (30 * 29) + 4 / 900
        assert abs(end - 0.64) == pytest.approx(1.96 * math.sqrt(8 / 30 * end + second), rel=1e-3)
    assert ShiftPilot(0.01, 0.3, Design(0, 30, 30), 1.0, 1.0, 2.0).interval()[0] == 0
    low, high = ShiftPilot(-9.0, 0.9, Design(0, 30, 30), 1.0, 1.0, 2.0).interval()
    assert low == 0 <= high


def test_designs_that_cannot_reach_p_05_have_no_power() -> None:
    paired = ShiftPilot(50.0, 0.01, Design(20, 0, 0), 1.0, 1.0, 2.0)
    unpaired = ShiftPilot(50.0, 0.01, Design(0, 20, 20), 1.0, 1.0, 2.0)
    assert paired.power(Design(5, 0, 0), 50.0) == unpaired.power(Design(0, 3, 3), 50.0) == 0
    assert paired.smallest(Design(5, 0, 0)) is None
    assert paired.patients(1e6) == 6
    assert unpaired.patients(1e6) == 4
    assert unpaired.patients(1e-9) is None
    assert unpaired.patients(-0.1) is None


def row_of(one: ShiftPilot) -> ShiftRow:
    numbers = (one.shift, None, None, None, None, one.p, 0.001, one.p, None)
    sizes = one.design.name, one.design.n_source, one.design.n_target
    return ShiftRow("A", "B", "mmd", "appearance", *numbers, *sizes, synthetic=True)


def test_words_and_table_of_a_shift() -> None:
    one = ShiftPilot(0.64, 0.001, Design(0, 30, 20), 1.0, 1.0, SQUARED_NORMAL)
    plan = ShiftPower(row_of(one), one)
    low, high = plan.interval
    assert plan.patients is not None and low is not None and high is not None
    assert low < plan.patients < high
    assert f"takes {plan.patients} patients per domain for a power of 80%" in plan.sentence
    assert f"interval {low} to {high}" in plan.sentence
    assert plan.tables()[0].columns[1] == "power for the pilot's shift"
    rows = plan.rows()
    assert [row["n_source"] for row in rows if row["is_pilot"]] == [30]
    assert all(a["power"] <= b["power"] for a, b in pairwise(rows))
    assert json.loads(json.dumps(plan.to_json()))["patients"] == plan.patients
    assert "synthetic phantom" in repr(plan)


def test_pilot_without_a_shift_plans_none() -> None:
    """As nobody knows its direction, it is that in which patients vary most."""
    random = np.random.default_rng(5)
    one = linear_pilot(random.normal(size=(40, 1)), two_domains(20, 20))
    assert one.slope == pytest.approx(math.sqrt(one.squares))
    plan = ShiftPower(row_of(one), one)
    assert plan.patients is None and plan.power is None
    assert plan.sentence.startswith("The pilot shows no shift (p = ")
    smallest = plan.smallest
    assert smallest is not None
    assert f"{one.patients(smallest / 2)} patients per domain" in plan.sentence
    assert len(plan.tables()[0].columns) == 2
    assert plan.to_json()["patients_low"] is None


@pytest.mark.parametrize(
    ("comparison", "problem"),
    [
        (two_domains(3, 8), "fewer than 4"),
        (Comparison(np.arange(9) < 5, np.arange(9) >= 4, np.arange(9)), "others in one"),
    ],
)
def test_pilots_that_tell_nothing_are_refused(comparison: Comparison, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        linear_pilot(np.arange(len(comparison.patient_U), dtype=float)[:, None], comparison)


def test_equal_images_are_no_pilot() -> None:
    with pytest.raises(DataError, match="the same for all permutations"):
        linear_pilot(np.zeros((12, 1)), two_domains(6, 6))
