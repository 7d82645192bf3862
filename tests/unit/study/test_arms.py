"""Arms and runs of a study: each run once, controls at every rate, budgets in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medtl.errors import ConfigError
from medtl.study.arms import Arm, control_arms, planned_runs, with_own_controls
from medtl.study.config import ArmSpec, StudyConfig, in_order, resolve_study

SETTLED = {"core:unet": {"src": "mod:flair", "dst": "mod:t1", "steps": 10, "task": "brats"}}


def study(**settings: Any) -> StudyConfig:
    return resolve_study(None, {"task": "brats", "strategies": "fine-tune", **settings})


def arm(name: str, rate: float = 0.002, optimizer: str = "adamw", **changes: Any) -> Arm:
    values: dict[str, Any] = {"start": "source", "steps": 10, "on_target": 10, "on_source": 10}
    spec = ArmSpec(strategy=name)
    return Arm(name, spec, **{**values, **changes}, rate=rate, optimizer=optimizer)


def test_control_b_has_the_steps_of_both() -> None:
    a, b = control_arms(10, 25, 0.002, "adamw")
    assert (a.on_target, b.on_target, b.steps) == (10, 35, 35)
    assert (a.role, b.role) == ("control-a", "control-b")


def test_without_known_steps_there_is_no_control_b() -> None:
    assert [arm.name for arm in control_arms(10, None, 0.002, "adamw")] == ["control-a"]


def test_a_rate_of_its_own_brings_a_control_and_equal_rates_share_it() -> None:
    arms = [*control_arms(10, 10, 0.002, "adamw"), arm("a"), arm("b", 0.001), arm("c", 0.001)]
    arms += [arm("d", 0.01, "sgd"), arm("zero-shot", 0.0, "", on_target=0)]
    found = {each.name: each for each in with_own_controls(arms)}
    controls = [name for name, each in found.items() if each.role]
    assert controls == ["control-a", "control-b", "control-a-adamw-0.001", "control-a-sgd-0.01"]
    own = {name: found[name].own_control for name in ("a", "b", "c", "d", "zero-shot")}
    assert own == {
        "a": "",
        "b": "control-a-adamw-0.001",
        "c": "control-a-adamw-0.001",
        "d": "control-a-sgd-0.01",
        "zero-shot": "",
    }
    sgd = found["control-a-sgd-0.01"]
    assert dict(sgd.spec.settings) == {"lr": 0.01, "optimizer": "sgd"}


def test_a_schedule_of_its_own_brings_a_control_with_it() -> None:
    own = ArmSpec(strategy="fine-tune", settings={"schedule": "constant", "lr": 0.002})
    arms = [*control_arms(10, 10, 0.002, "adamw"), replace(arm("fine-tune"), spec=own)]
    found = {each.name: each for each in with_own_controls(arms)}
    control = found["control-a-adamw-0.002-fine-tune"]
    assert dict(control.spec.settings) == {
        "lr": 0.002,
        "optimizer": "adamw",
        "schedule": "constant",
    }
    assert found["fine-tune"].own_control == control.name


def test_every_run_is_planned_once_and_sources_come_first() -> None:
    config = study(budgets="5,all", seeds=2, folds=3)
    arms = with_own_controls([*control_arms(10, 10, 0.002, "adamw"), arm("fine-tune")])
    runs = planned_runs(config, arms, SETTLED)
    names = [run.name for run in runs]
    assert len(names) == len(set(names)) == 3 * 2 * (1 + 3 * 2)
    assert all(run.arm == "source" for run in runs[:6])
    known = {run.name for run in runs[:6]}
    for run in runs:
        assert (run.after in known) == (run.arm == "fine-tune")
        if run.after:
            assert run.after == f"source-f{run.fold}-s{run.seed}"


def test_only_the_source_has_all_patients_at_a_small_budget() -> None:
    config = study(budgets=[5])
    runs = planned_runs(config, [*control_arms(10, 10, 0.002, "adamw"), arm("fine-tune")], SETTLED)
    budgets = {run.arm: run.settings.get("train_patients") for run in runs}
    assert budgets == {"source": None, "control-a": 5, "control-b": 5, "fine-tune": 5}
    source = next(run for run in runs if run.arm == "source")
    assert (source.settings["dst"], source.settings["src"]) == ("mod:flair", None)


def test_several_networks_have_names_of_their_own() -> None:
    arms = control_arms(10, 10, 0.002, "adamw")
    several = planned_runs(study(seeds=1), arms, {**SETTLED, "core:plain-unet": {"src": "t1"}})
    assert [run.name for run in several if run.arm == "control-a"] == [
        "unet-control-a-nall-f0-s0",
        "plain-unet-control-a-nall-f0-s0",
    ]


def test_budgets_are_in_order() -> None:
    assert in_order(["all", 20, 0.5, 5]) == [5, 20, 0.5, "all"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": ""}, "name a task"),
        ({"settings": {"seed": 1}}, "use seeds"),
        ({"settings": {"out": "x"}}, "drop it"),
        ({"settings": {"depth": 1}}, "the controls have none"),
        ({"settings": {"lerning": 1}}, "lerning"),
        ({"strategies": "fine-tune,fine-tune"}, "named twice"),
        ({"strategies": [{"strategy": "fine-tune", "settings": {"steps": 5}}]}, "same in all arms"),
        ({"strategies": [{"strategy": "fine-tune", "name": "a/b"}]}, "folder"),
        ({"strategies": [{"strategy": "l2-sp", "settings": {"loss": "dice"}}]}, "loss is the same"),
        ({"strategies": [{"strategy": "fine-tune", "name": "control-a"}]}, "another arm"),
        ({"strategies": [{"strategy": "fine-tune", "name": "joint"}]}, "another arm"),
        ({"strategies": "scratch"}, "a control, which every study has"),
        ({"skip": "zero"}, "zero-shot, joint, control-b"),
        ({"budgets": [2.5]}, "whole number"),
        ({"budgets": [True]}, "budgets"),
        ({"primary": {"strategy": "fine-tone", "output": "WT"}}, "did you mean"),
        ({"primary": {"strategy": "fine-tune", "output": "WT", "budget": 7}}, "none of the study"),
        ({"primary": "fine-tune"}, "must be lines of settings, not 'fine-tune'"),
        ({"strategies": [{"strategy": "l2-sp", "seting": {}}]}, "did you mean 'settings'"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"margin": 0}, "greater than 0"),
        ({"patience": 3}, "there is no setting 'patience' of a study"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        study(**settings)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_without_a_task_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").touch()
    with pytest.raises(ConfigError, match=r"study.yaml: names no task"):
        resolve_study(tmp_path / "study.yaml", {})


def test_options_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("task: brats\nstrategies: fine-tune\nseeds: 5\nsettings: {steps: 7, lr: 0.1}\n")
    found = resolve_study(file, {"seeds": 2, "settings": {"steps": 9}})
    assert (found.seeds, found.settings) == (2, {"steps": 9, "lr": 0.1})
