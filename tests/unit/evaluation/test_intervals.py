from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import ttest_rel

from medtl.errors import DataError
from medtl.evaluation.intervals import interval, paired_difference, patient_means, set_intervals


def scores(n: int, seed: int = 0) -> dict[str, float]:
    values = np.random.default_rng(seed).beta(6, 2, n)
    return {f"p{index:02d}": float(value) for index, value in enumerate(values)}


@pytest.mark.parametrize("n", [1, 4])
def test_below_five_patients_the_values_are_listed(n):
    found = interval(scores(n))
    assert (found.low, found.high) == (None, None)
    assert found.method == "values listed (n < 5)"
    assert found.values == tuple(scores(n).values())
    body = found.to_json()
    assert list(body) == ["mean", "n", "low", "high", "method", "values"]
    assert json.loads(json.dumps(body, allow_nan=False)) == body


@pytest.mark.parametrize("n", [5, 19])
def test_five_to_nineteen_patients_take_student_t(n):
    values = np.array(list(scores(n).values()))
    found = interval(scores(n), bounds=(-math.inf, math.inf))
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.method.startswith("Student-t 95%")
    assert list(found.to_json()) == ["mean", "n", "low", "high", "method"]


def test_student_t_is_clipped_to_the_range_of_the_metric():
    near_one = {"a": 1.0, "b": 1.0, "c": 0.99, "d": 1.0, "e": 0.7}
    assert interval(near_one).high == 1.0
    distances_mm = {"a": 0.0, "b": 0.0, "c": 90.0, "d": 1.0, "e": 2.0}
    found = interval(distances_mm, bounds=(0, math.inf))
    assert found.low == 0.0
    assert found.high > found.mean
    assert "clipped to [0, inf]" in found.method


def test_twenty_patients_take_the_bca_bootstrap():
    found = interval(scores(20), seed=3)
    values = np.array(list(scores(20).values()))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.method == "BCa bootstrap by patient 95%, 9999 resamples"
    assert found == interval(scores(20), seed=3) != interval(scores(20), seed=4)


@pytest.mark.parametrize(("n", "least"), [(8, 0.91), (25, 0.89)])
def test_interval_covers_the_true_mean_about_as_often_as_it_says(n, least):
    """95% is the promise; 200 draws of a skewed score (mean 0.75) leave room for chance."""
    covered = sum(
        found.low <= 0.75 <= found.high
        for found in (interval(scores(n, seed)) for seed in range(200))
    )
    assert least <= covered / 200 <= 0.99


def test_bca_stays_finite_with_one_patient_unlike_the_others():
    found = interval({**dict.fromkeys(scores(20), 1.0), "odd": 0.0})
    assert 0 <= found.low < found.mean < found.high <= 1


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_or_none_of_the_patients_have_the_exact_interval_of_a_share(n, value):
    found = interval(dict.fromkeys(scores(n), value), share=True)
    exact = stats.binomtest(round(n * value), n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert "Clopper-Pearson" in found.method


def test_a_share_of_votes_that_rounding_keeps_from_one_has_its_interval():
    def statistic(weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        votes_N = np.array([1 / 7] * 7 + [1 / 3] * 3 + [1.0] * 5)
        return {"x": (weights_RN * votes_N).sum(1) / (weights_RN @ votes_N) + 2e-16}

    names = ["a"] * 7 + ["b"] * 3 + list("cdefg")
    found = set_intervals(statistic, names, {"x": (0, 1)}, {"x": 7}, shares=["x"])["x"]
    exact = stats.binomtest(7, 7).proportion_ci(method="exact")
    assert (found.mean, found.low, found.high) == pytest.approx((1, exact.low, 1))


def test_the_interval_of_a_limit_is_as_wide_as_the_range():
    found = interval(dict.fromkeys(scores(8), -1.0), bounds=(-1.0, 1.0), share=True)
    exact = stats.binomtest(0, 8).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((-1, 2 * exact.high - 1))


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize(
    ("value", "bounds"),
    [(0.1, (0, 1)), (0, (0, 1)), (1, (0, 1)), (0, (0, math.inf))],
)
def test_equal_scores_have_no_interval_and_say_so(n, value, bounds):
    found = interval(dict.fromkeys(scores(n), value), bounds=bounds)
    assert found.low is found.high is None and found.mean == pytest.approx(value)
    assert found.method == "no interval (all values equal)"


def test_cases_of_one_patient_count_once():
    cases = {**scores(4), "p04": [0.1, 0.2, 0.6]}
    assert patient_means(cases)["p04"] == pytest.approx(0.3)
    assert interval(cases) == interval({**scores(4), "p04": patient_means(cases)["p04"]})


def test_the_order_of_the_patients_does_not_matter():
    for n in (4, 10, 25):
        assert interval(scores(n)) == interval(dict(reversed(scores(n).items())))


def test_paired_difference_is_the_interval_of_the_differences():
    a, b = scores(24, 0), {p: v - 0.1 for p, v in scores(24, 0).items()}
    assert paired_difference(a, b).mean == pytest.approx(0.1)
    assert paired_difference(a, b).method == "no interval (all values equal)"
    other = scores(24, 1)
    tested = ttest_rel([a[p] for p in a], [other[p] for p in a])
    expected = tested.confidence_interval(0.95)
    found, back = paired_difference(a, other), paired_difference(other, a)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (back.low, back.mean) == pytest.approx((-found.high, -found.mean))


def test_paired_difference_keeps_negative_values():
    a, b = dict.fromkeys("vwxyz", 0.2), dict(zip("vwxyz", (0.9, 0.5, 0.7, 0.8, 0.6), strict=True))
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(-0.5)
    assert found.low < -0.5 < found.high < 0


def test_paired_difference_refuses_other_patients():
    with pytest.raises(DataError, match="patient p04"):
        paired_difference(scores(5), scores(4))


def test_what_cannot_be_scored_is_an_error_that_names_the_patient():
    with pytest.raises(DataError, match="no patient"):
        interval({})
    with pytest.raises(DataError, match="patient b"):
        interval({"a": 1.0, "b": math.nan})
    with pytest.raises(DataError, match="patient b"):
        interval({"a": 1.0, "b": []})
