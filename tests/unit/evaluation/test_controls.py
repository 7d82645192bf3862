"""Whether the transfer helped is told as docs/concepts/controls.md says."""

from __future__ import annotations

import numpy as np
import pytest

from medtl.evaluation.class_metrics import hits_by_patient
from medtl.evaluation.controls import against_controls, verdict
from medtl.evaluation.intervals import Interval, paired_difference
from medtl.evaluation.metrics import dice_by_patient, found_by_patient
from medtl.evaluation.tables import gain_table


def between(low: float | None, high: float | None) -> Interval:
    return Interval(0.0, 20, low, high, "")


BETTER, EQUAL, WORSE = (between(*limits) for limits in ((0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1)))
#: No patient differs; few patients.
SAME, FEW = Interval(0.0, 30, None, None, ""), Interval(0.0, 4, None, None, "")


@pytest.mark.parametrize(
    ("to_a", "to_b", "said"),
    [
        (BETTER, BETTER, "helped"),
        (BETTER, EQUAL, "faster, perhaps"),
        (BETTER, WORSE, "faster, perhaps"),
        (EQUAL, EQUAL, "no evidence"),
        (EQUAL, BETTER, "no evidence"),
        (EQUAL, WORSE, "hurt"),
        (WORSE, EQUAL, "hurt"),
        (BETTER, SAME, "faster, perhaps"),
        (WORSE, SAME, "hurt"),
        (FEW, FEW, "no interval"),
    ],
)
def test_both_controls_decide(to_a: Interval, to_b: Interval, said: str) -> None:
    assert verdict([to_a, to_b]) == said


def test_control_a_alone_does_not_show_help() -> None:
    assert verdict([BETTER]) == "better than control A"
    assert verdict([EQUAL]) == "no evidence"
    assert verdict([WORSE]) == "hurt"


def cases(stage_gain: float, seed: int) -> list[dict]:
    """Two cases of each of 12 patients, some of whom are hard in every arm."""
    hard = np.random.default_rng(0).uniform(0.2, 0.8, 12)
    noise = np.random.default_rng(seed).normal(0, 0.02, (12, 2))
    return [
        {
            "patient": f"p{patient}",
            "region": "WT",
            "metrics": {"dice": float(hard[patient] + stage_gain + noise[patient, case])},
        }
        for patient in range(12)
        for case in range(2)
    ]


def test_the_last_stage_of_the_transfer_is_compared_within_patients() -> None:
    arms = {"source": cases(-0.3, 1), "unfreeze": cases(0.1, 2)}
    arms |= {"control-a": cases(0.0, 3), "control-b": cases(0.1, 4)}
    paired = {name: dice_by_patient(rows) for name, rows in arms.items()}
    found = against_controls("dice", paired)
    assert found["stage"] == "unfreeze"
    own = found["outputs"]["WT"]
    assert own["verdict"] == "faster, perhaps"
    for control in ("control-a", "control-b"):
        expected = paired_difference(paired["unfreeze"]["WT"], paired[control]["WT"])
        assert own[control] == expected.to_json()
    assert own["control-a"]["n"] == 12


def row(patient: int, dice: float, truth_ml: float) -> dict:
    metrics = {"dice": dice, "truth_ml": truth_ml}
    return {"patient": f"p{patient}", "region": "ET", "metrics": metrics}


def test_networks_that_found_nothing_are_not_compared() -> None:
    """Six patients have the region, six have none and score 1 for predicting nothing."""
    empty = [row(n, 1.0, 0.0) for n in range(6, 12)]
    arms = {
        "adapt": [row(n, 0.001 * n, 2.0) for n in range(6)] + empty,
        "control-a": [row(n, 0.02 + 0.001 * n, 2.0) for n in range(6)] + empty,
    }

    def said(arms: dict[str, list[dict]]) -> str:
        paired = {name: dice_by_patient(rows) for name, rows in arms.items()}
        found = {name: found_by_patient(rows) for name, rows in arms.items()}
        gain = against_controls("dice", paired, found)
        assert gain["floor"] == 0.1
        table = gain_table(gain, synthetic=False)
        verdict = gain["outputs"]["ET"]["verdict"]
        noted = any("a mean Dice of 0.1 in" in note for note in table.notes)
        assert noted == (verdict == "too poor to compare")
        return verdict

    assert said(arms) == "too poor to compare"
    one_finds = {**arms, "control-a": [row(n, 0.2 + 0.01 * n, 2.0) for n in range(6)] + empty}
    assert said(one_finds) == "hurt"
    nothing_to_find = {name: empty for name in arms}
    assert said(nothing_to_find) == "no evidence"


def test_without_a_control_nothing_is_claimed() -> None:
    assert not against_controls("dice", {"unfreeze": dice_by_patient(cases(0.1, 2))})
    assert not against_controls("dice", {"control-a": dice_by_patient(cases(0.1, 2))})


def test_control_of_other_patients_is_left_out() -> None:
    arms = {"adapt": cases(0.1, 2), "control-a": cases(0.0, 3), "control-b": cases(0.0, 4)[2:]}
    paired = {name: dice_by_patient(rows) for name, rows in arms.items()}
    own = against_controls("dice", paired)["outputs"]["WT"]
    assert own.keys() == {"verdict", "control-a"}
    assert not against_controls("dice", {**paired, "control-a": {}})
    b_alone = {"adapt": paired["adapt"], "control-b": paired["control-a"]}
    assert not against_controls("dice", b_alone)


def test_classes_are_compared_by_the_share_told_right() -> None:
    rows = [
        {"patient": 1, "class": "a", "predicted": "a"},
        {"patient": 1, "class": "a", "predicted": "b"},
        {"patient": 2, "class": "b", "predicted": "b"},
    ]
    assert hits_by_patient(rows) == {"all": {"1": [1.0, 0.0], "2": [1.0]}}


def test_the_table_tells_difference_and_verdict() -> None:
    arms = {"adapt": cases(0.1, 2), "control-a": cases(0.0, 3), "control-b": cases(0.0, 4)}
    paired = {name: dice_by_patient(rows) for name, rows in arms.items()}
    gain = against_controls("dice", paired)
    table = gain_table(gain, synthetic=True)
    assert table.title == (
        "Did the transfer help? Difference in Dice: adapt minus each control; synthetic phantom"
    )
    assert table.columns == ("region", "n", "vs control-a", "vs control-b", "verdict")
    [(region, n, to_a, _, said)] = table.rows
    low, high = (gain["outputs"]["WT"]["control-a"][end] for end in ("low", "high"))
    assert (region, n, said) == ("WT", "12", "helped")
    assert to_a.endswith(f"[{low:+.3f}, {high:+.3f}]")


@pytest.mark.parametrize(("to_b", "better"), [(0.1, False), (0.3, True)])
def test_what_faster_says_is_told_and_where_the_longer_control_is_better(to_b, better) -> None:
    arms = {"adapt": cases(0.1, 2), "control-a": cases(0.0, 3), "control-b": cases(to_b, 4)}
    gain = against_controls("dice", {name: dice_by_patient(rows) for name, rows in arms.items()})
    table = gain_table(gain, synthetic=False)
    assert table.rows[0][-1] == "faster, perhaps"
    (note,) = (note for note in table.notes if note.startswith("faster, perhaps: better than"))
    assert note.endswith("For WT that is better than the transfer.") == better
