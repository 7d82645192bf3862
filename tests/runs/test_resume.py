"""Runs that were stopped or killed go on to the very same weights; see benchmarks/resume.py."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from places import KILLED
from terminal import run_forked, start_forked

from medtl.runtime.signals import watching
from medtl.training.state import STATE
from medtl.training.trainer import LAST
from medtl.transfer.weights import BEST

STAGES = ("source", "adapt", "unfreeze")
TINY = ("--network", "unet", "--width", "4", "--steps", "6", "--device", "cpu")
TINY += ("--batch-size", "2", "--transforms", "brain-mr")
TINY += ("--set=patch_size=32,32,32",)


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=12, size=24, sites=2, seed=3)


def medtl(*words: object, program: tuple[object, ...] = ("-m", "medtl"), **environment: str):
    return run_forked(*program, *words, environment=environment)


def train(data: Path, out: Path, **options):
    return medtl("train", "brats", "--data", data, *TINY, "--out", out, **options)


def written(run: Path) -> dict[str, bytes]:
    files = [f"{stage}/{name}" for stage in STAGES for name in (BEST, LAST, "metrics.jsonl")]
    return {name: (run / name).read_bytes() for name in (*files, "metrics.csv")}


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    done = train(phantom, run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize("moment", ["state:3", "between:2"])
def test_killed_run_resumes_to_the_same_bytes(
    moment: str, phantom: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed = train(phantom, run, program=(KILLED, moment))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = medtl("train", "--resume", run, "--workers", 1, "--cache", "disk")
    assert resumed.returncode == 0, resumed.stderr
    assert written(run) == written(whole)
    assert not list(run.rglob(".*")) and not list(run.rglob(STATE.name))


def test_asked_to_stop_it_says_how_to_go_on(phantom: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", "brats", "--data", phantom, *TINY, "--workers", 2, "--out", run]
    started, late = start_forked("-m", "medtl", *words), time.monotonic() + 120
    rows = run / "source" / "metrics.jsonl"
    while time.monotonic() < late and not (rows.is_file() and rows.read_text()):
        time.sleep(0.02)
    os.kill(*started.pids, signal.SIGTERM)
    done = started.ended()
    err = done.stderr
    assert done.returncode == 130, err
    last = err.splitlines()[-1]
    assert last.startswith("error: stopped") and last.endswith(f"medtl train --resume {run}")
    assert "Traceback" not in err
    image = sorted(phantom.rglob("*t1.nii*"))[0]
    former = image.read_bytes()
    image.write_bytes(former + b"\0")
    refused = medtl("train", "--resume", run, "-q")
    image.write_bytes(former)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    last = refused.stderr.splitlines()[-1]
    assert last.startswith(f"error: {image}: changed since {run} began; put the former one back")
    assert medtl("train", "brats", "--resume", run).returncode == 0
    assert written(run) == written(whole)


def test_job_that_slurm_runs_again_goes_on(phantom: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(phantom, run, program=(KILLED, "step:7")).returncode == -signal.SIGKILL
    refused = train(phantom, run)
    assert refused.returncode == 2 and f"--resume {run}" in refused.stderr
    assert medtl("train", "brats", *TINY, "--out", run, SLURM_RESTART_COUNT="1").returncode == 0
    assert written(run) == written(whole)


def test_stopped_before_training_it_says_to_give_the_command_again(
    phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("train", "brats", "--data", phantom, *TINY, "--out", out)
    started, late = start_forked("-m", "medtl", *words), time.monotonic() + 120
    said = Path(started.streams.name) / "err0"
    while time.monotonic() < late and not (said.is_file() and said.read_text()):
        time.sleep(0.002)
    os.kill(*started.pids, signal.SIGTERM)
    done = started.ended()
    assert done.returncode == 130, done.stderr
    again = "error: stopped before training began; give the command again"
    assert done.stderr.splitlines()[-1] == again and not out.exists()


def test_stage_whose_weights_are_lost_is_trained_again_once_its_folder_is_gone(
    whole: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "summary.json").unlink()
    for spoil, reason in (
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is truncated or damaged"),
        (Path.unlink, f"{BEST} is gone"),
    ):
        spoil(run / "source" / BEST)
        refused = medtl("train", "--resume", run, "-q")
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert reason in line and f"remove the folder {run / 'source'} to train" in line
    shutil.rmtree(run / "source")
    resumed = medtl("train", "--resume", run, "-q")
    assert resumed.returncode == 0, resumed.stderr
    assert written(run) == written(whole)


def test_resume_keeps_the_settings_of_the_run(whole: Path, tmp_path: Path) -> None:
    finished = medtl("train", "--resume", whole)
    assert finished.returncode == 0 and "is finished" in finished.stderr
    refused = medtl("train", "--resume", whole, "--steps", "7")
    assert refused.returncode == 2 and "--steps" in refused.stderr
    (tmp_path / "config.yaml").write_text((whole / "config.yaml").read_text())
    for words, wrong in (
        (("--steps", "7"), "--steps"),
        (("kaggle",), "TASK"),
        (("--set", "rate=1"), "--set"),
        (("--spacing", "3"), "--spacing"),
    ):
        refused = medtl("train", *words, "--resume", tmp_path)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
        assert wrong in refused.stderr
    nowhere = medtl("train", "--resume", tmp_path / "nowhere")
    assert nowhere.returncode == 2 and "no such run folder" in nowhere.stderr


def test_signals_are_deferred_once_and_handlers_return() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with watching() as interruption:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert not interruption.asked
        with pytest.raises(KeyboardInterrupt), interruption.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.asked
    assert signal.getsignal(signal.SIGTERM) == before
    assert not interruption.requeue


def test_slurm_is_asked_to_queue_the_job_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with watching() as interruption:
        assert not interruption.requeue_job()
        with pytest.raises(KeyboardInterrupt), interruption.deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
    assert interruption.requeue_job()
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
