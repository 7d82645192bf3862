"""Verdicts on arms against one reference: both directions, a margin, and Holm over the arms."""

from __future__ import annotations

import pytest
from scipy.stats import ttest_1samp

from medtl.evaluation.comparison.effects import Effect, paired_effect
from medtl.evaluation.comparison.verdicts import Judged, arm_verdicts

NOISE = (-0.02, 0.01, 0.0, 0.02, -0.01, 0.0)


def effect(mean: float, spread: float = 1.0, patients: int = 6) -> Effect:
    """Of one run, with the differences ``mean`` + ``spread`` times the noise."""
    a = {f"p{n}": 0.5 + mean + spread * NOISE[n] for n in range(patients)}
    return paired_effect({(0, 0): a}, {(0, 0): dict.fromkeys(a, 0.5)})


def p_of(mean: float, spread: float = 1.0) -> float:
    return float(ttest_1samp([mean + spread * each for each in NOISE], 0).pvalue)


@pytest.mark.parametrize(
    ("mean", "margin", "word"),
    [
        (0.1, None, "better"),
        (-0.1, None, "worse"),
        (0.005, None, "no evidence"),
        (0.0, None, "no evidence"),
        (0.005, 0.05, "equivalent"),
        (0.02, 0.05, "equivalent"),  # also above 0, but by less than what matters
        (0.1, 0.05, "better"),
    ],
)
def test_one_arm_has_the_verdict_of_its_interval(
    mean: float, margin: float | None, word: str
) -> None:
    assert arm_verdicts({"arm": effect(mean)}, margin=margin)["arm"].verdict == word


def test_p_is_adjusted_over_the_arms_in_either_direction() -> None:
    means = {"up": 0.1, "down": -0.02, "none": 0.001}
    found = arm_verdicts({name: effect(mean) for name, mean in means.items()})
    raw = {name: p_of(mean) for name, mean in means.items()}
    assert {name: each.p for name, each in found.items()} == pytest.approx(raw)
    assert found["up"].p_holm == pytest.approx(3 * raw["up"])
    assert found["down"].p_holm == pytest.approx(2 * raw["down"])
    assert found["none"].p_holm == pytest.approx(raw["none"])


def test_a_difference_that_does_not_survive_the_adjustment_is_no_evidence() -> None:
    alone, spread = p_of(0.015), 1.0
    assert 0.025 < alone < 0.05
    assert arm_verdicts({"arm": effect(0.015, spread)})["arm"].verdict == "better"
    both = arm_verdicts({"arm": effect(0.015), "other": effect(0.0)})
    assert both["arm"].verdict == "no evidence"
    assert both["arm"].p_holm == pytest.approx(2 * alone)


def test_an_arm_without_interval_takes_no_share_of_the_level() -> None:
    found = arm_verdicts({"arm": effect(0.015), "few": effect(0.1, patients=4)})
    assert found["few"] == Judged("no interval", None, None)
    assert found["arm"].verdict == "better"
