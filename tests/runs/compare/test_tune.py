"""``medtl compare --tune``: equal trials for every arm, shared by processes, blind to the test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from forked import Forked
from terminal import exit_code, start_forked

from medtl import api
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Recorder
from medtl.study.arms import PlannedRun
from medtl.study.compare import plan
from medtl.study.config import resolve_study
from medtl.study.executors import in_turn
from medtl.study.folder import State, StudyFolder, start_study
from medtl.study.trials.execution import carry_out_trials
from medtl.study.trials.records import Search, read_choice, read_tuning_plan, tuning_plan_path
from medtl.study.work import Ended, Executor, work

STUDY = (
    "compare", "brats", "--strategies", "linear-probe", "--networks", "unet", "--seeds", 1,
    "--skip", "joint,zero-shot,control-b", "--src", "flair,t1ce", "--dst", "t1,t2",
    "--device", "cpu", "--steps", 2, "--set", "width=4", "--set", "batch_size=2",
    "--set", "spacing_mm=7.5", "--set", "precision=fp32", "--set", "patch_size=32,32,32",
    "--set", "transforms=brain-mr-plain", "--set", "test_fraction=0.4", "--budgets", 10,
)  # fmt: skip
TRIALS = 3
ARMS = ("control-a", "linear-probe")


@pytest.fixture(scope="module")
def data(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=24, size=24, sites=2, seed=3)


def started(data: Path, out: Path, *words: object) -> Forked:
    words = ("-m", "medtl", *STUDY, "--tune", TRIALS, "--data", data, "--out", out, *words)
    return start_forked(*words)


class Shared(NamedTuple):
    """Two studies of two processes, and the file in which they shared their trials.

    ``killed``: SIGKILL ended it within its trials, and the same command went on with it.
    """

    whole: Path
    killed: Path
    store: Path
    before: dict[str, int]  #: trials of ``killed`` that had ended then, and when they had


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    store, whole, killed = (folder / name for name in ("trials.db", "whole", "killed"))
    url, late = f"sqlite:///{store}", time.monotonic() + 200
    command = started(data, killed, "--storage", url)
    while not trials_of(killed):
        assert time.monotonic() < late
        time.sleep(0.05)
    os.kill(*command.pids, signal.SIGKILL)
    command.ended()
    before = trials_of(killed)

    beside = started(data, killed, "--storage", url)
    words = (*STUDY, "--tune", TRIALS, "--data", data, "--out", whole, "--storage", url)
    assert exit_code(*words) == 0
    done = beside.ended()
    assert done.returncode == 0, done.stderr
    return Shared(whole, killed, store, before)


def trials_of(study: Path) -> dict[str, int]:
    """Those that this study has carried out, and when each ended."""
    if not tuning_plan_path(study).is_file():
        return {}
    plan = read_tuning_plan(study)
    assert plan is not None
    every = {name for search in plan.searches for name in search.trial_names()}
    paths = {name: study / "state" / f"{name}.json" for name in every}
    return {name: path.stat().st_mtime_ns for name, path in paths.items() if path.is_file()}


def summary(study: Path) -> dict[str, Any]:
    """What the study found, but for its cost."""
    found = json.loads((study / "summary.json").read_text())
    del found["cost"]
    del found["outcomes"]["time"]
    return found


def states(store: Path) -> Counter[tuple[str, str]]:
    """Of the trials in the store: how many of each study of Optuna have which state."""
    with sqlite3.connect(store) as file:
        rows = file.execute("select study_name, state from trials natural join studies")
        return Counter(rows.fetchall())


def test_two_processes_carry_out_each_trial_once_and_choose_the_same(shared: Shared) -> None:
    first, second = trials_of(shared.whole), trials_of(shared.killed)
    assert not first.keys() & second.keys()
    assert len(first.keys() | second.keys()) == TRIALS * len(ARMS)
    assert summary(shared.whole) == summary(shared.killed)


def test_a_study_killed_in_its_trials_ends_the_same_and_trains_none_twice(shared: Shared) -> None:
    after = trials_of(shared.killed)
    assert 0 < len(shared.before) < TRIALS * len(ARMS)
    assert {name: after[name] for name in shared.before} == shared.before
    one, other = shared.whole / "tables.md", shared.killed / "tables.md"
    assert one.read_bytes() == other.read_bytes()


def test_every_arm_has_as_many_trials(shared: Shared) -> None:
    complete = [n for (_, state), n in states(shared.store).items() if state == "COMPLETE"]
    assert complete == [TRIALS] * len(ARMS)
    for search in summary(shared.whole)["tuning"]["searches"]:
        assert (search["trials"], len(search["scores"])) == (TRIALS, TRIALS)


def test_trials_count_in_the_cost_of_the_arm_that_they_tune(shared: Shared) -> None:
    costs = json.loads((shared.whole / "summary.json").read_text())["cost"]
    runs = Counter({row["arm"]: row["runs"] for row in costs})
    own = Counter(name.split("-n10")[0] for name in trials_of(shared.whole))
    trained = [p.name.split("-n10")[0] for p in (shared.whole / "state").glob("*-n10-f0-s0.json")]
    assert own and runs - Counter({"source": runs["source"]}) == own + Counter(trained)


def test_the_best_trial_on_validation_patients_is_chosen(shared: Shared) -> None:
    study = shared.whole
    for search in summary(study)["tuning"]["searches"]:
        scores = search["scores"]
        assert search["chosen"] == scores.index(max(scores))
        run = study / "runs" / f"{search['arm']}-n10-f0-s0" / "config.yaml"
        if search["chosen"]:
            text = run.read_text()
            assert f"lr: {search['settings']['lr']}" in text
            assert f"weight_decay: {search['settings']['weight_decay']}" in text
        else:
            assert search["settings"] == {} and not run.exists()  # the same as the untuned run


def test_the_first_trial_is_the_untuned_run(shared: Shared) -> None:
    study = shared.whole
    for search in summary(study)["tuning"]["searches"]:
        arm = search["arm"].removesuffix("-tuned")
        rows = next((study / "runs" / f"{arm}-n10-f0-s0").glob("*/metrics.jsonl")).read_text()
        (own,) = [json.loads(r)["validation"] for r in rows.splitlines() if "validation" in r]
        assert search["score_untuned"] == sum(own.values()) / len(own)


def test_tuned_arms_stand_beside_the_untuned(shared: Shared) -> None:
    found = summary(shared.whole)
    arms = [(row["arm"], row["budget"]) for row in found["arms"] if row["output"] == "WT"]
    assert arms == [(name, "10") for arm in ARMS for name in (arm, f"{arm}-tuned")]
    against = {row["arm"]: list(row["against"]) for row in found["comparisons"]}
    assert against["linear-probe-tuned"] == ["control-a-tuned"]
    assert "control-a-tuned" not in against["linear-probe"]
    gains = {(row["arm"], row["untuned"]) for row in found["tuning"]["gains"]}
    assert gains == {(f"{arm}-tuned", arm) for arm in ARMS}
    tables = (shared.whole / "tables.md").read_text()
    assert "What tuning changed" in tables and "| control-a-tuned | 10 |" in tables


def test_a_trial_reads_no_image_of_a_test_patient_nor_where_its_labels_are(
    data: Path, shared: Shared, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    config = resolve_study(shared.whole / "study.yaml", {"settings": {"data": str(copy)}})
    planned = plan(config, load_catalog(), Recorder(silent=True))
    folder = start_study(tmp_path / "study", config, planned)
    assert planned.to_json()["tuning"]["trials"] == TRIALS
    (split,) = planned.splits
    tested = [case for case in planned.cases if case.patient in split.test]
    assert len(tested) == 10
    for case in tested:
        for image in case.images.values():
            whole = bytearray(image.path.read_bytes())
            middle = len(whole) // 2
            whole[middle : middle + 64] = bytes(64)  # the header can be read
            image.path.write_bytes(whole)
        assert case.target is not None
        label = nib.load(case.target.path)
        flipped = np.asarray(label.dataobj)[::-1]
        nib.save(nib.Nifti1Image(flipped, label.affine), case.target.path)

    search = searched(folder.path)
    untuned = next(run for run in folder.runs() if run.name == search.run)
    trial = list(search.runs(untuned))[1]
    scores = {s["arm"]: s["scores"] for s in summary(shared.whole)["tuning"]["searches"]}
    assert work(folder.path, trial).score == scores[search.arm][1]
    assert work(folder.path, untuned).status == "failed"  # it is tested


def searched(study: Path) -> Search:
    """The first search of a study."""
    tuning = read_tuning_plan(study)
    assert tuning is not None
    return tuning.searches[0]


def test_a_trial_whose_loss_is_not_finite_has_ended_without_a_score(shared: Shared) -> None:
    folder, search = StudyFolder(shared.whole), searched(shared.whole)
    untuned = next(run for run in folder.runs() if run.name == search.run)
    trial = next(search.runs(untuned))
    state = work(
        folder.path, replace(trial, name="diverges", settings={**trial.settings, "lr": 1e30})
    )
    assert (state.status, state.score) == ("done", None)
    assert "not finite" in state.reason


def test_nothing_is_chosen_where_a_trial_failed_until_it_has_ended(
    shared: Shared, tmp_path: Path
) -> None:
    folder = StudyFolder(Path(shutil.copytree(shared.whole, tmp_path / "study")))
    search, reporter = searched(folder.path), Recorder(silent=True)
    for name in trials_of(folder.path):
        (folder.path / "state" / f"{name}.json").unlink()
    for choice in (folder.path / "tuning").glob("*-s0.json"):
        choice.unlink()
    asked: list[str] = []

    def execute(failing: str) -> Executor:
        def executed(_: StudyFolder, runs: Iterable[PlannedRun]) -> Ended:
            for run in runs:
                asked.append(run.name)
                bad = run.name == failing
                yield (
                    run,
                    State(status="failed", reason="no memory")
                    if bad
                    else State(status="done", score=0.5),
                )

        return executed

    failing, store = search.trial_names()[1], f"sqlite:///{tmp_path / 'trials.db'}"
    found = carry_out_trials(folder, store, execute(failing), {}, reporter)
    assert found == {search.name: f"1 of its {TRIALS} trials failed: no memory"}
    assert len(asked) == TRIALS * len(ARMS)
    assert read_choice(folder.path, search.name) is None
    asked.clear()
    assert carry_out_trials(folder, store, execute(""), {}, reporter) == {}
    assert asked == [failing]
    choice = read_choice(folder.path, search.name)
    assert choice is not None and choice.is_untuned


def test_trials_do_not_start_from_a_source_that_failed(shared: Shared, tmp_path: Path) -> None:
    folder = StudyFolder(Path(shutil.copytree(shared.whole, tmp_path / "study")))
    for choice in (folder.path / "tuning").glob("*-s0.json"):
        choice.unlink()
    failed, reporter = {"source-f0-s0": "no memory"}, Recorder(silent=True)
    store = f"sqlite:///{shared.store}"  # where all trials have ended
    found = carry_out_trials(folder, store, in_turn(load_catalog()), failed, reporter)
    name = f"{ARMS[-1]}-tuned-n10-f0-s0"
    assert found == {name: "source-f0-s0 failed, from which its trials start"}
    assert read_choice(folder.path, searched(folder.path).name) is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tune", 1), "tune"),
        (("--tune", 1001), "tune"),
        (("--tune", 2, "--budgets", 4), "no budget leaves a patient to validate with"),
        (("--storage", "sqlite:///trials.db"), "add --tune"),
        (("--tune", 2, "--storage", "trials.db"), "no URL of a database"),
        (("--tune", 2, "--storage", "sqlite:////no/such/folder/trials.db"), "unable to open"),
        (("--tune", 2, "--storage", "postgresql+no://me:secret@host/x"), "no URL of a database"),
    ],
)
def test_a_mistake_is_one_line(
    medtl, data: Path, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    line = medtl.refused(*STUDY, "--data", data, "--out", tmp_path / "study", *words)
    assert said in line and "secret" not in line
    assert not (tmp_path / "study").exists()


def test_optuna_is_named_where_it_is_not_installed(
    medtl, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    line = medtl.refused(*STUDY, "--data", data, "--out", tmp_path / "study", "--tune", 2)
    assert "pip install 'medtl[tune]'" in line


def test_a_dry_run_shows_the_trials_and_writes_nothing(medtl, data: Path, tmp_path: Path) -> None:
    words = (*STUDY, "--data", data, "--out", tmp_path / "study", "--tune", 5, "--dry-run")
    out, err = medtl(*words, "--budgets", "4,10")
    assert "warning: budgets 4 are not tuned" in err + out
    assert "10 trials, 20 steps" in out and "0.0004 to 0.04" in " ".join(out.split())
    assert not (tmp_path / "study").exists()


def test_another_number_of_trials_is_another_study(medtl, shared: Shared) -> None:
    line = medtl.refused("compare", "--out", shared.whole, "--tune", 4)
    assert "begun with tune 3, not 4" in line


def test_python_gives_the_same(shared: Shared) -> None:
    study = api.compare(config=shared.whole / "study.yaml", out=shared.whole)
    assert study.tuned is not None
    assert [each.to_json() for each in study.tuned.tuned] == summary(shared.whole)["tuning"][
        "searches"
    ]
