"""Verdicts on one comparison and on a family, against tables worked out by hand."""

from __future__ import annotations

import pytest
from scipy import stats

from medtl.evaluation.comparison.effects import Effect
from medtl.evaluation.comparison.verdicts import Judged, family_verdicts, holm, verdict
from medtl.evaluation.intervals import Interval

DF = 20.0


def effect(mean: float, p: float) -> Effect:
    """A difference with this two-sided p value and the interval that belongs to it."""
    return precise(mean, abs(mean) / float(stats.t.isf(p / 2, DF)))


def precise(mean: float, error: float = 0.001) -> Effect:
    low, high = map(float, stats.t.interval(0.95, DF, mean, error))
    p = 2 * float(stats.t.sf(abs(mean) / error, DF))
    return Effect(mean, 30, 3, low, high, p, error, DF, 0.1, 0.01, 0.1, "")


#: No patient differs; few patients.
SAME = Effect(0.0, 30, 3, None, None, None, None, None, 0.0, 0.0, 0.0, "")
FEW = Effect(0.1, 4, 3, None, None, None, None, None, 0.1, 0.0, 0.1, "")
UP, FLAT, DOWN = effect(0.1, 0.01), effect(0.01, 0.8), effect(-0.1, 0.01)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([UP, UP], "helped"),
        ([UP, FLAT], "faster, perhaps"),
        ([UP, DOWN], "faster, perhaps"),
        ([UP, SAME], "faster, perhaps"),
        ([FLAT, FLAT], "no evidence"),
        ([FLAT, UP], "no evidence"),
        ([FLAT, DOWN], "hurt"),
        ([DOWN, UP], "hurt"),
        ([UP, FEW], "no interval"),
        ([UP], "better than control A"),
        ([FLAT], "no evidence"),
        ([DOWN], "hurt"),
    ],
)
def test_effects_and_intervals_are_judged_by_the_same_rule(differences, said: str) -> None:
    assert verdict(differences) == said
    assert verdict([Interval(e.mean, e.n, e.low, e.high, "") for e in differences]) == said


def test_other_levels_move_the_limits() -> None:
    assert verdict([effect(0.1, 0.03)]) == "better than control A"
    assert verdict([effect(0.1, 0.03)], level=0.02) == "no evidence"
    assert verdict([effect(0.1, 0.08)], level=0.1) == "better than control A"
    with pytest.raises(ValueError, match="only the 95% limits"):
        verdict([Interval(0.1, 30, 0.05, 0.15, "")], level=0.01)


def test_equivalent_needs_every_control_within_the_margin() -> None:
    near, far = precise(0.01), precise(0.05)
    assert verdict([near, near], margin=0.02) == "equivalent"
    assert verdict([near, near]) == "helped"  # without a declared margin any difference counts
    assert verdict([precise(-0.01)], margin=0.02) == "equivalent"
    assert verdict([near, far], margin=0.02) == "helped"
    assert verdict([FEW], margin=0.2) == "no interval"


def test_equivalence_is_tested_at_the_level_and_not_at_half_of_it() -> None:
    """An interval of 90% within the margin, one of 95% not."""
    error = 0.01
    margin = (float(stats.t.isf(0.05, DF)) + float(stats.t.isf(0.025, DF))) / 2 * error
    found = precise(0.0, error)
    assert verdict([found], margin=margin) == "equivalent"
    assert verdict([found], margin=margin, level=0.025) == "no evidence"
    assert verdict([Interval(0.0, 30, found.low, found.high, "")], margin=margin) == "no evidence"


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls() -> None:
    found = holm({"d": 0.5, "a": 0.01, "c": 0.03, "b": 0.02})
    assert found == pytest.approx({"d": 0.5, "a": 0.04, "c": 0.06, "b": 0.06})
    assert list(found) == ["d", "a", "c", "b"]
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_verdict_of_a_family_stands_only_after_the_adjustment() -> None:
    found = family_verdicts({"x": [effect(0.1, 0.01)], "y": [effect(0.1, 0.03)], "z": [FLAT]})
    assert found["x"] == Judged("better than control A", pytest.approx(0.01), pytest.approx(0.03))
    assert found["y"] == Judged("no evidence", pytest.approx(0.03), pytest.approx(0.06))
    assert found["z"] == Judged("no evidence", pytest.approx(0.8), pytest.approx(0.8))


def test_primary_comparison_is_not_adjusted_and_costs_the_others_nothing() -> None:
    rows = {"main": [effect(0.1, 0.04)], "x": [effect(0.1, 0.02)], "y": [effect(0.1, 0.04)]}
    found = family_verdicts(rows, primary="main")
    assert found["main"] == Judged("better than control A", *[pytest.approx(0.04)] * 2)
    assert found["x"] == Judged("better than control A", pytest.approx(0.02), pytest.approx(0.04))
    assert found["y"].verdict == "better than control A"
    assert {row.verdict for row in family_verdicts(rows).values()} == {"no evidence"}


def test_helped_takes_the_largest_p_and_hurt_the_smallest_times_the_controls() -> None:
    helped, hurt = [effect(0.1, 0.001), effect(0.1, 0.02)], [effect(-0.1, 0.01), effect(-0.1, 0.3)]
    assert family_verdicts({"x": helped})["x"] == Judged("helped", *[pytest.approx(0.02)] * 2)
    assert family_verdicts({"x": hurt})["x"] == Judged("hurt", *[pytest.approx(0.02)] * 2)
    barely = [effect(-0.1, 0.03), FLAT]
    assert verdict(barely) == "hurt"
    assert family_verdicts({"x": barely})["x"] == Judged("no evidence", *[pytest.approx(0.06)] * 2)
    assert family_verdicts({"x": barely}, primary="x")["x"].verdict == "no evidence"


def test_helped_that_does_not_stand_may_still_be_faster() -> None:
    one = [effect(0.1, 0.001), effect(0.1, 0.04)]
    found = family_verdicts({"x": one, "y": [effect(0.1, 0.001), FLAT]})
    assert found["x"] == Judged("faster, perhaps", pytest.approx(0.001), pytest.approx(0.002))
    assert found["y"] == Judged("faster, perhaps", pytest.approx(0.001), pytest.approx(0.002))


def test_faster_that_does_not_stand_may_still_be_worse_than_control_b() -> None:
    """Better than A at p = .03, twice that by Holm; worse than B at p = .001, four times that."""
    rows = {"one": [effect(0.1, 0.03), effect(-0.1, 0.001)], "other": [FLAT, FLAT]}
    assert family_verdicts(rows)["one"] == Judged(
        "hurt", pytest.approx(0.002), pytest.approx(0.004)
    )
    alone = family_verdicts({"one": rows["one"]})
    assert alone["one"] == Judged("faster, perhaps", pytest.approx(0.03), pytest.approx(0.03))


def test_rows_that_are_clearly_faster_do_not_pay_for_a_wrong_helped() -> None:
    """In one list of decisive tests, 0.04 would come last and stand unadjusted."""
    fast = [effect(0.1, 0.0001), FLAT]
    rows = {"x": [effect(0.1, 0.0001), effect(0.1, 0.04)], "y": fast, "z": fast}
    assert family_verdicts(rows)["x"].verdict == "faster, perhaps"
    assert family_verdicts({"x": rows["x"]})["x"].verdict == "helped"


def test_equivalence_is_adjusted_too() -> None:
    margin = 0.02
    error = margin / float(stats.t.isf(0.03, DF))  # p of equivalence .03 at a difference of 0
    rows = {"x": [precise(0.0, error)], "y": [precise(0.0, error)]}
    assert verdict(rows["x"], margin=margin) == "equivalent"
    assert family_verdicts({"x": rows["x"]}, margin=margin)["x"] == Judged(
        "equivalent", *[pytest.approx(0.03)] * 2
    )
    assert family_verdicts(rows, margin=margin)["x"].verdict == "no evidence"


def test_rows_without_interval_are_no_tests() -> None:
    found = family_verdicts({"x": [effect(0.1, 0.04)], "few": [FEW], "same": [SAME, SAME]})
    assert found["few"] == Judged("no interval", None, None)
    assert found["same"] == Judged("no evidence", 1.0, 1.0)
    assert found["x"].p_holm == pytest.approx(0.08)
    assert family_verdicts({"x": [effect(0.1, 0.04)], "few": [FEW]})["x"].p_holm == pytest.approx(
        0.04
    )
