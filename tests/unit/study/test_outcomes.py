"""Steps, forgetting, calibration and cost of the arms of a study, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from medtl.errors import ConfigError
from medtl.study.config import StudyConfig, resolve_study
from medtl.study.folder import ArmRecord, State
from medtl.study.outcomes.arm_runs import Place
from medtl.study.outcomes.calibration import Calibration, read_calibration
from medtl.study.outcomes.cost import find_cost, total
from medtl.study.outcomes.curves import Curve, Point, read_curve
from medtl.study.outcomes.efficiency import Efficiency, find_efficiency
from medtl.study.outcomes.found import Outcomes
from medtl.study.outcomes.median_time import median_time
from medtl.study.outcomes.retention import Retention, find_retention
from medtl.study.outcomes.speed import find_speed, target_scores
from medtl.study.outcomes.tables import cost_table, outcome_tables
from medtl.study.scores import RunScores, StudyScores

PLACE: Place = ("unet", "20", "fine-tune")
CONTROL: Place = ("unet", "20", "control-a")

#: Weeks of remission under 6-MP (Freireich et al. 1963), and whether it ended then.
WEEKS = (6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35)
ENDED = (1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0)


def curve(*scores: float, every: int = 25, seconds: float | None = 10.0) -> Curve:
    """Validated after every 25 steps, each of which takes 10 s."""
    points = [
        Point(every * n, score, None if seconds is None else seconds * n)
        for n, score in enumerate(scores, 1)
    ]
    return Curve(tuple(points), every * len(scores))


def write_run(path: Path, stages: dict[str, list[float]], *, timed: bool = True) -> Path:
    """A run whose stages have the validation scores given, one every two steps."""
    path.mkdir()
    (path / "stages.json").write_text(json.dumps(list(stages)))
    for stage, scores in stages.items():
        (path / stage).mkdir()
        rows: list[dict[str, Any]] = []
        for n, score in enumerate(scores, 1):
            rows.append({"step": 2 * n - 1, "loss": 1.0})
            both = {"WT": score - 0.1, "TC": score + 0.1}
            rows.append({"step": 2 * n, "loss": 1.0, "validation": both})
        times = [{"step": row["step"], "seconds": 3.0 * row["step"]} for row in rows[1::2]]
        for name, lines in (("metrics", rows), ("times", times if timed else [])):
            if lines:
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (path / stage / f"{name}.jsonl").write_text(text)
    return path


def test_the_median_of_a_published_study_is_23_weeks() -> None:
    assert median_time(WEEKS, [bool(ended) for ended in ENDED]) == 23


def test_the_median_is_that_of_the_product_of_conditional_shares() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        times = draw.integers(1, 8, 9) * 25
        reached = draw.random(9) < 0.6
        share, expected = 1.0, None
        for time in sorted(set(times[reached])):
            share *= 1 - (reached & (times == time)).sum() / (times >= time).sum()
            if expected is None and share <= 0.5 + 1e-12:
                expected = time
        assert median_time(times.tolist(), reached.tolist()) == expected


def test_without_an_event_there_is_no_median() -> None:
    assert median_time([100, 100], [False, False]) is None
    assert median_time([50, 100, 100], [True, False, False]) is None
    assert median_time([50, 100], [True, False]) == 50


def test_stages_on_the_target_are_one_curve(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", {"source": [0.9], "head": [0.25, 0.5], "all": [0.75], "end": []}
    )
    found = read_curve(run)
    assert (found.steps, found.source_steps) == (6, 2)
    assert [(p.step, p.seconds) for p in found.points] == [(2, 6.0), (4, 12.0), (6, 18.0)]
    assert [p.score for p in found.points] == pytest.approx([0.25, 0.5, 0.75])


def test_runs_that_kept_no_times_have_steps_alone(tmp_path: Path) -> None:
    found = read_curve(write_run(tmp_path / "run", {"scratch": [0.5]}, timed=False))
    assert [(point.step, point.seconds) for point in found.points] == [(2, None)]


def test_the_target_is_where_control_a_ends_in_the_mean() -> None:
    curves = {CONTROL: [curve(0.9, 0.5), curve(0.6, 0.7)], PLACE: [curve(0.1)]}
    assert target_scores(curves, "control-a") == {("unet", "20"): pytest.approx(0.6)}
    assert target_scores(curves, "control-a", 0.8) == {("unet", "20"): 0.8}
    assert target_scores({CONTROL: [Curve((), 100)]}, "control-a", 0.8) == {}


def test_the_first_validation_that_reaches_the_target_counts() -> None:
    runs = [curve(0.1, 0.6, 0.3), curve(0.6, 0.1, 0.1), curve(0.1, 0.2, 0.59)]
    found = find_speed(PLACE, runs, 0.6, 100)
    assert (found.reached, found.runs, found.source_steps) == (2, 3, 100)
    assert (found.steps, found.seconds) == (50, 20.0)


def test_what_most_runs_have_not_reached_is_longer_than_they_took() -> None:
    found = find_speed(PLACE, [curve(0.6, 0.1), curve(0.1, 0.2), curve(0.1, 0.2)], 0.6, 0)
    assert (found.steps, found.longest, found.reached) == (None, 50, 1)
    assert (found.seconds, found.longest_seconds) == (None, 20.0)


def test_one_run_without_times_leaves_no_seconds() -> None:
    found = find_speed(PLACE, [curve(0.6), curve(0.6, seconds=None)], 0.6, 0)
    assert (found.steps, found.seconds, found.longest_seconds) == (25, None, None)


def test_without_validation_nothing_is_reached() -> None:
    found = find_speed(PLACE, [Curve((), 100)], None, 0)
    assert (found.runs, found.steps, found.longest) == (0, None, 100)


def retained(seeds: int, n: int = 8) -> tuple[list[Retention], np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    before_PS = draw.uniform(0.5, 0.9, (n, seeds))
    after_PS = before_PS - draw.uniform(0, 0.2, (n, seeds))

    def of(table_PS: np.ndarray, seed: int) -> dict[str, float]:
        return {f"p{patient}": float(table_PS[patient, seed]) for patient in range(n)}

    before = {
        (0, s): RunScores({"WT": {**of(before_PS, s), "only": 0.9}}, {}) for s in range(seeds)
    }
    after = {(0, s): {"WT": of(after_PS, s)} for s in range(seeds)}
    return list(find_retention(PLACE, before, after)), before_PS, after_PS


def test_forgetting_of_one_seed_is_the_paired_t_test_on_common_patients() -> None:
    (found,), before_PS, after_PS = retained(1)
    tested = ttest_rel(after_PS[:, 0], before_PS[:, 0])
    assert found.effect.p == pytest.approx(tested.pvalue)
    assert found.effect.low == pytest.approx(tested.confidence_interval().low)
    assert (found.output, found.effect.n) == ("WT", 8)


def test_forgetting_is_after_less_before_over_all_runs() -> None:
    (found,), before_PS, after_PS = retained(3)
    assert found.before == pytest.approx(before_PS.mean())
    assert found.after == pytest.approx(after_PS.mean())
    assert found.effect.mean == pytest.approx(after_PS.mean() - before_PS.mean())
    assert found.effect.runs == 3


def write_summary(path: Path, scores: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "stages.json").write_text('["head", "all"]')
    rest = {"low": None, "high": None, "n": 9}
    shown = {
        name: {metric: {"mean": mean, **rest} for metric, mean in own.items()}
        for name, own in scores.items()
    }
    (path / "summary.json").write_text(json.dumps({"data": {}, "head": {}, "all": shown}))
    return path


def test_calibration_is_the_mean_of_the_last_stages(tmp_path: Path) -> None:
    runs = [
        write_summary(tmp_path / f"run{n}", {"all": {"brier": brier, "ece": 0.1 * n}})
        for n, brier in enumerate((0.5, 0.25))
    ]
    assert read_calibration(PLACE, runs) == Calibration(PLACE, 0.375, 0.05, 2)


def test_runs_of_segmentation_have_no_calibration(tmp_path: Path) -> None:
    assert read_calibration(PLACE, [write_summary(tmp_path / "run", {"WT": {"dice": 0.5}})]) is None


def test_only_runs_on_a_gpu_have_gpu_hours() -> None:
    states = [
        State(status="done", seconds=100.0, cpu_seconds=150.0),
        State(status="done", seconds=50.0, cpu_seconds=60.0, gpu="H200"),
        State(status="failed", seconds=30.0, cpu_seconds=30.0, gpu="H200"),
    ]
    one = find_cost(PLACE, states)
    assert (one.runs, one.cpu_seconds, one.gpu_seconds, one.gpus) == (3, 240.0, 80.0, ("H200",))
    both = total([one, find_cost(CONTROL, states[:1])])
    assert (both.runs, both.cpu_seconds, both.gpu_seconds) == (4, 390.0, 80.0)


ARMS = (
    ArmRecord(name="control-a", role="control-a", own_control="", budgeted=True),
    ArmRecord(name="fine-tune", role="", own_control="", budgeted=True),
    ArmRecord(name="zero-shot", role="", own_control="", budgeted=False),
)


def efficient(means: dict[str, float], **settings: Any) -> list[Efficiency]:
    """Of fine-tune at each budget, and of control A (0.6) with all; 12 patients, 2 seeds."""
    draw = np.random.default_rng(2)
    skill = draw.normal(0, 0.1, 12)
    cells = {}
    for arm, budget, mean in [
        ("control-a", "all", 0.6),
        *(("fine-tune", b, m) for b, m in means.items()),
    ]:
        runs = {}
        for seed in (0, 1):
            values = mean + skill + draw.normal(0, 0.01, 12)
            own = {"WT": {f"p{n}": float(value) for n, value in enumerate(values)}}
            runs[0, seed] = RunScores(own, own)
        cells["unet", arm, budget] = runs
    return list(find_efficiency(study(**settings), StudyScores(cells, "dice"), ARMS))


def study(**settings: Any) -> StudyConfig:
    asked = {"task": "brats", "strategies": "fine-tune", "budgets": [5, 20, "all"]}
    return resolve_study(None, asked | settings)


def test_the_smallest_budget_that_reaches_control_a_with_all_is_named() -> None:
    (found,) = efficient({"5": 0.5, "20": 0.65, "all": 0.7})
    assert (found.arm, found.output, found.budget, found.largest) == (
        "fine-tune",
        "WT",
        "20",
        "all",
    )
    assert found.effect.mean == pytest.approx(0.05, abs=0.02)


def test_a_margin_asks_for_the_whole_interval() -> None:
    (found,) = efficient({"5": 0.5, "20": 0.61, "all": 0.7}, margin=0.02)
    assert found.budget == "20"  # the interval may reach below 0, not below -0.02
    assert found.effect.low is not None and found.effect.low >= -0.02
    (found,) = efficient({"5": 0.5, "20": 0.602, "all": 0.7}, margin=0.001)
    assert found.budget == "all"


def test_no_budget_may_reach_it() -> None:
    (found,) = efficient({"5": 0.3, "20": 0.4, "all": 0.5})
    assert found.budget is None
    assert found.effect.mean == pytest.approx(-0.1, abs=0.02)


def test_one_budget_tells_nothing_of_efficiency() -> None:
    assert efficient({"all": 0.7}, budgets=["all"]) == []


def outcomes(**changes: Any) -> Outcomes:
    speeds = (
        find_speed(CONTROL, [curve(0.1, 0.6), curve(0.7, 0.8)], 0.7, 0),
        find_speed(PLACE, [curve(0.1, 0.6), curve(0.1, 0.6), curve(0.8)], 0.7, 100),
        find_speed(("unet", "5", "fine-tune"), [Curve((), 50)], None, 100),
    )
    values: dict[str, Any] = {
        "metric": "dice",
        "target": None,
        "speeds": speeds,
        "calibrations": (),
        "efficiencies": (),
        "retained": (),
        "mapped": False,
        "not_scored": {},
    }
    return Outcomes(**values | changes)


def test_cells_tell_how_many_runs_reached_the_target() -> None:
    (table,) = outcome_tables(outcomes(), synthetic=False)
    assert table.columns == ("budget", "arm", "target", "source steps", "steps to target")
    assert [row[-1] for row in table.rows] == ["25 (1 of 2)", "> 50 (1 of 3)", ""]
    assert any("No validation at budget 5:" in note for note in table.notes)
    assert any("segmentation keep no prob" in note for note in table.notes)


def test_classes_have_columns_of_calibration() -> None:
    known = (Calibration(PLACE, 0.25, 0.125, 3),)
    (table,) = outcome_tables(outcomes(metric="accuracy", calibrations=known), synthetic=False)
    assert table.columns[-2:] == ("Brier", "ECE")
    assert [row[-2:] for row in table.rows] == [("", ""), ("0.250", "0.125"), ("", "")]


def test_times_stand_in_the_table_of_cost_alone() -> None:
    body = outcomes().to_json()
    times = body.pop("time")
    assert "second" not in json.dumps(body) and "hour" not in json.dumps(body)
    assert times["to_target"][0] == {
        **{"network": "unet", "budget": "20", "arm": "control-a"},
        **{"seconds": 10.0, "longest_seconds": 20.0},
    }
    cost = find_cost(PLACE, [State(status="done", seconds=7200.0, cpu_seconds=3600.0)])
    table = cost_table([cost], outcomes().speeds, synthetic=False)
    assert [row[-1] for row in table.rows] == ["1.00", "1.00"]
    assert table.rows[0][3] == "> 20"


def test_an_arm_that_cannot_be_scored_on_the_source_says_why() -> None:
    lost = {"fine-tune": "its outputs are others than the source's"}
    _, table = outcome_tables(outcomes(not_scored=lost), synthetic=False)
    assert "fine-tune is not scored on the source: its outputs" in table.notes[-1]


def test_a_target_is_a_score() -> None:
    assert study(target=0.7).target == 0.7
    for name in ("target", "margin"):
        with pytest.raises(ConfigError, match=f"{name}: .* less than 1"):
            study(**{name: 1.5})
