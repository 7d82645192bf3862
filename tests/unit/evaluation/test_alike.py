"""Which runs are of one arm and of one fold."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.config import TrainConfig, write_config
from medtl.errors import ConfigError, RunError
from medtl.evaluation.several.alike import arm_settings, check_once, differing, folds_of

A, B, C = Path("a"), Path("b"), Path("c")


def sets(**patients: str) -> dict[Path, frozenset[str]]:
    """A letter is a patient."""
    return {Path(name): frozenset(each) for name, each in patients.items()}


def differ(**settings: object) -> list[str]:
    plain, other = (
        TrainConfig(task="brats"),
        TrainConfig.model_validate({"task": "brats"} | settings),
    )
    return differing(arm_settings(plain), arm_settings(other))


def test_runs_of_the_same_patients_are_one_fold_and_of_others_another() -> None:
    assert folds_of(sets(a="pq", b="rs", c="qp")) == {A: 0, B: 1, C: 0}


@pytest.mark.parametrize("other", ["p", "pqr", "qr"])
def test_a_partial_overlap_is_refused_with_both_runs(other: str) -> None:
    with pytest.raises(RunError, match=f"a and b share . of their 2 and {len(other)} test"):
        folds_of(sets(a="pq", b=other))


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 3},
        {"fold": 1, "folds": 5},
        {"splits": "splits.json", "fold": 1},
        {"test_cases": ["p"]},
        {"device": "cpu", "workers": 2, "cache": "none"},
        {"data": "elsewhere", "out": "runs/new"},
    ],
    ids=str,
)
def test_runs_of_one_arm_may_differ_in_these(settings: dict[str, object]) -> None:
    assert differ(**settings) == []


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"init": "imagenet"}, {"train_patients": 5}])
def test_another_setting_is_another_arm(settings: dict[str, object]) -> None:
    assert differ(**settings) == list(settings)


def test_sources_that_differ_in_seed_are_one_start(tmp_path: Path) -> None:
    for name, more in (("s0", {"seed": 0}), ("s1", {"seed": 1}), ("fast", {"lr": 0.5})):
        source = TrainConfig.model_validate({"task": "brats"} | more)
        (tmp_path / name).mkdir()
        write_config(tmp_path / name / "config.yaml", source)

    def started(name: str) -> dict[str, object]:
        return arm_settings(TrainConfig(task="brats", init=str(tmp_path / name)))

    assert differing(started("s0"), started("s1")) == []
    assert differing(started("s0"), started("fast")) == ["init"]


def test_a_run_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(ConfigError, match="named twice"):
        check_once([tmp_path / "run", tmp_path / "link"])
