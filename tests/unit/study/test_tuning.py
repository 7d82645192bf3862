"""Trials: what is drawn, what is chosen, and that no two processes get the same one."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
from scipy.stats import kstest

from medtl.errors import ConfigError, RunError
from medtl.study.config import resolve_study
from medtl.study.folder import ArmRecord
from medtl.study.results import find
from medtl.study.scores import RunScores, StudyScores
from medtl.study.trials.database import hidden
from medtl.study.trials.records import Search, choose
from medtl.study.trials.space import Space, around, draw_trials
from medtl.study.trials.store import Outcome, TrialStore, check_store, open_store

SPACE = Space(around(2e-3), around(1e-2), (0, 1, 2, 3))


def search(count: int = 4, name: str = "fine-tune-tuned-n10-f0-s0") -> Search:
    trials = tuple(dict(each) for each in draw_trials(SPACE, count))
    return Search(
        name=name, run="fine-tune-n10-f0-s0", arm="fine-tune-tuned", network="unet", budget="10",
        fold=0, seed=0, key="0123456789abcdef", trials=trials,
    )  # fmt: skip


def test_the_first_trial_is_the_untuned_arm_and_a_trial_depends_on_its_number_alone() -> None:
    few, many = draw_trials(SPACE, 3), draw_trials(SPACE, 20)
    assert few[0] == {} and few == many[:3]
    assert all(set(each) == {"lr", "weight_decay", "depth"} for each in many[1:])
    assert len({str(each) for each in many}) == 20


def test_logarithms_are_drawn_evenly_within_a_factor_of_ten() -> None:
    drawn = draw_trials(SPACE, 200)[1:]
    for name, own in (("lr", 2e-3), ("weight_decay", 1e-2)):
        places = [(math.log10(each[name] / own) + 1) / 2 for each in drawn]
        assert min(places) >= 0 and max(places) <= 1
        assert kstest(places, "uniform").statistic < 0.05  # at random it would be 0.1
    assert min(Counter(each["depth"] for each in drawn).values()) > 25


def test_an_arm_without_weight_decay_or_depth_is_searched_for_its_rate() -> None:
    assert all(set(each) == {"lr"} for each in draw_trials(Space(around(1e-3)), 5)[1:])


def test_the_highest_score_is_chosen_and_of_equal_ones_the_first() -> None:
    four = search(4)
    best = choose(four, (0.2, None, 0.5, 0.5))
    assert best is not None and best.chosen == 2 and best.settings == four.trials[2]
    untuned = choose(four, (0.5, 0.5, None, 0.1))
    assert untuned is not None and untuned.is_untuned and untuned.settings == {}
    assert choose(four, (None,) * 4) is None
    with pytest.raises(ValueError, match="3 scores of 4 trials"):
        choose(four, (0.1, 0.2, 0.3))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trials.db'}"


def opened(url: str, study: Path) -> TrialStore:
    store = open_store(url, study)
    store.begin(search())
    return store


def take_all(url: str, study: Path, count: int) -> list[int]:
    """Claim what can be claimed, and tell a score of each; in a process of its own."""
    store, own, taken = open_store(url, study), search(count), []
    store.begin(own)
    with store.working():
        for number in range(count):
            if store.claim(own, number):
                taken.append(number)
                store.tell(own, number, Outcome(number / count))
    return taken


def test_processes_that_start_at_once_take_each_trial_once(url: str, tmp_path: Path) -> None:
    count = 10
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        jobs = [pool.submit(take_all, url, tmp_path / str(n), count) for n in range(3)]
        taken = [number for job in jobs for number in job.result()]
    assert sorted(taken) == list(range(count))
    found = opened(url, tmp_path).outcomes(search(count))
    assert found == {number: Outcome(number / count) for number in range(count)}
    (study,) = optuna.get_all_study_summaries(url)
    trials = optuna.load_study(storage=url, study_name=study.study_name).trials
    assert Counter(trial.state.name for trial in trials)["COMPLETE"] == count
    assert study.best_trial is not None and study.best_trial.params == search(count).trials[-1]


def test_a_killed_study_gets_its_own_trial_back_and_no_other(url: str, tmp_path: Path) -> None:
    killed, other = opened(url, tmp_path / "a"), opened(url, tmp_path / "b")
    assert killed.claim(search(), 0) and other.claim(search(), 1)
    again = opened(url, tmp_path / "a")
    assert not again.claim(search(), 1)
    assert again.claim(search(), 0)
    assert not other.claim(search(), 0)
    assert other.others_at_work(search()) == 2


def test_a_trial_without_signs_of_life_is_taken_over(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = opened(url, tmp_path / "a"), opened(url, tmp_path / "b")
    assert killed.claim(search(), 0)
    assert other.others_at_work(search()) == 1
    monkeypatch.setattr("medtl.study.trials.store.GIVEN_UP_S", 0.0)
    assert other.others_at_work(search()) == 0
    assert other.claim(search(), 0)
    killed.tell(search(), 0, Outcome(0.9))  # too late: it was alive after all
    other.tell(search(), 0, Outcome(0.5))
    assert other.outcomes(search()) == {0: Outcome(0.5)}


def test_signs_of_life_keep_a_trial(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr("medtl.study.trials.store.BEAT_S", 0.05)
    monkeypatch.setattr("medtl.study.trials.store.GIVEN_UP_S", 3.0)
    own, other = opened(url, tmp_path / "a"), opened(url, tmp_path / "b")
    with own.working():
        assert own.claim(search(), 0)
        late = time.monotonic() + 4
        while time.monotonic() < late:
            assert other.others_at_work(search()) == 1
            time.sleep(0.1)
    assert other.others_at_work(search()) == 0  # what is not told is free at the end
    assert other.claim(search(), 0)


def test_a_failed_trial_is_told_and_only_the_next_command_tries_it_again(
    url: str, tmp_path: Path
) -> None:
    store = opened(url, tmp_path)
    assert store.claim(search(), 1)
    store.tell(search(), 1, "no memory")
    assert store.reasons(search()) == ["no memory"] and store.outcomes(search()) == {}
    assert not store.claim(search(), 1)
    assert opened(url, tmp_path).claim(search(), 1)


def test_a_trial_whose_loss_is_not_finite_counts_without_a_score(url: str, tmp_path: Path) -> None:
    store = opened(url, tmp_path)
    assert store.claim(search(), 2)
    store.tell(search(), 2, Outcome(None))
    assert store.outcomes(search()) == {2: Outcome(None)}
    assert not opened(url, tmp_path).claim(search(), 2)


def test_studies_of_other_data_share_nothing(url: str, tmp_path: Path) -> None:
    store, other = opened(url, tmp_path / "a"), open_store(url, tmp_path / "b")
    assert store.claim(search(), 0)
    changed = search().model_copy(update={"key": "f" * 16})
    other.begin(changed)
    assert other.claim(changed, 0)


def test_no_password_is_told(tmp_path: Path) -> None:
    url = "postgresql://me:s3cr%21t@nowhere.invalid/trials"
    assert hidden(url) == "postgresql://me:***@nowhere.invalid/trials"
    assert hidden("mysql://me@host/trials?passwd=s3cret") == "mysql://me@host/trials"
    with pytest.raises(ConfigError) as told:
        check_store(url, 5)
    assert "s3cr" not in str(told.value) and "nowhere.invalid" in str(told.value)
    assert told.value.__suppress_context__


def test_a_store_that_breaks_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    store = opened(f"sqlite:///{path}", tmp_path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match="the same command goes on") as told:
        store.claim(search(), 0)
    assert "\n" not in str(told.value)


ARMS = (
    ArmRecord(name="control-a", role="control-a", own_control="", budgeted=True),
    ArmRecord(
        name="control-a-tuned", role="control-a", own_control="", budgeted=True,
        tuned_from="control-a",
    ),
    ArmRecord(name="control-b", role="control-b", own_control="", budgeted=True),
    ArmRecord(
        name="control-b-tuned", role="control-b", own_control="", budgeted=True,
        tuned_from="control-b",
    ),
    ArmRecord(name="own", role="control-a", own_control="", budgeted=True),
    ArmRecord(name="probe", role="", own_control="own", budgeted=True),
    ArmRecord(name="probe-tuned", role="", own_control="", budgeted=True, tuned_from="probe"),
)  # fmt: skip


def test_tuned_arms_are_compared_with_tuned_controls() -> None:
    def runs(mean: float) -> dict[tuple[int, int], RunScores]:
        own = {"WT": {f"p{n}": mean + 0.01 * n for n in range(8)}}
        return {(0, 0): RunScores(own, own)}

    means = {arm.name: 0.5 + 0.02 * n for n, arm in enumerate(ARMS)}
    scores = StudyScores({("unet", a, "10"): runs(m) for a, m in means.items()}, "dice")
    config: Any = {"task": "brats", "strategies": ["linear-probe"], "tune": 3}
    found = find(resolve_study(None, config), scores, ARMS)
    against = {each.arm: list(each.against) for each in found.comparisons}
    assert against == {
        "probe": ["control-a", "own", "control-b"],
        "probe-tuned": ["control-a-tuned", "control-b-tuned"],
    }
    (tuned,) = (each for each in found.comparisons if each.arm == "probe-tuned")
    assert tuned.against["control-a-tuned"].mean == pytest.approx(0.1)
