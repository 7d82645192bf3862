"""``medtl compare --executor slurm``: the same study, also in jobs that are queued again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from one_node_slurm import NoSlurm, Slurm, one_node_slurm
from terminal import start_forked

from medtl.errors import ConfigError
from medtl.plugins.catalog import load_catalog
from medtl.study.executors import choose_executor
from medtl.study.slurm import read_options

STUDY = (
    "compare", "brats", "--strategies", "linear-probe", "--networks", "unet", "--seeds", 2,
    "--skip", "joint,zero-shot,control-b", "--src", "flair,t1ce", "--dst", "t1,t2",
    "--device", "cpu", "--steps", 40, "--set", "width=4", "--set", "batch_size=2",
    "--set", "spacing_mm=7.5", "--set", "precision=fp32", "--set", "patch_size=32,32,32",
    "--set", "transforms=brain-mr-plain", "--set", "test_fraction=0.4",
)  # fmt: skip
JOBS = ("--executor", "slurm", "--slurm", "time=10", "--jobs", 2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    try:
        with one_node_slurm(tmp_path_factory.mktemp("slurm")) as started:
            yield started
    except NoSlurm as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def data(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=16, size=24, sites=2, seed=3)


def started(slurm: Slurm, data: Path, out: Path, *words: object) -> Forked:
    environment = {**slurm.environment, "OMP_NUM_THREADS": "1"}  # jobs add up in the same order
    words = ("-m", "medtl", *STUDY, "--data", data, "--out", out, *words)
    return start_forked(*words, environment=environment)


def until_it_trains(study: Path, run: str) -> None:
    """Wait until the run has made further steps, but not all."""
    path, late = study / "runs" / run / "scratch" / "metrics.jsonl", time.monotonic() + 120

    def rows() -> int:
        return len(path.read_text().splitlines()) if path.is_file() else 0

    before = rows()
    while rows() < before + 2:
        assert time.monotonic() < late, f"{run} does not train"
        time.sleep(0.02)
    assert not (study / "state" / f"{run}.json").exists()


@pytest.fixture(scope="module")
def local(slurm: Slurm, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "study"
    done = started(slurm, data, out).ended()
    assert done.returncode == 0, done.stderr
    return out


def found(study: Path) -> dict[str, Any]:
    """What the study found, but for its cost."""
    summary = json.loads((study / "summary.json").read_text())
    del summary["cost"]
    del summary["outcomes"]["time"]
    return summary


def test_a_study_in_jobs_finds_the_same_though_one_is_queued_again(
    slurm: Slurm, data: Path, local: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    command = started(slurm, data, study, *JOBS)
    until_it_trains(study, "source-f0-s0")
    (job,) = (job for job in slurm.jobs() if job.endswith("_0"))  # in the order of the plan
    slurm.ask("scontrol", "requeue", job)
    done = command.ended()
    assert done.returncode == 0, done.stderr
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job)
    assert found(study) == found(local)
    assert (study / "tables.md").read_bytes() == (local / "tables.md").read_bytes()
    assert not slurm.jobs()


def test_a_job_that_is_stopped_goes_on_and_one_that_is_cancelled_failed(
    slurm: Slurm, data: Path, local: Path, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(local, tmp_path / "study"))
    run = "control-a-nall-f0-s1"
    shutil.rmtree(study / "runs" / run)
    (study / "state" / f"{run}.json").unlink()

    command = started(slurm, data, study, *JOBS)
    until_it_trains(study, run)
    os.kill(*command.pids, signal.SIGINT)
    stopped = command.ended()
    last = f"error: stopped, and the jobs are cancelled; go on with: medtl compare --out {study}"
    assert (stopped.returncode, stopped.stderr.splitlines()[-1]) == (130, last)

    again = started(slurm, data, study, *JOBS)
    until_it_trains(study, run)
    (job,) = slurm.jobs()  # none of the former command
    slurm.ask("scancel", "--signal=TERM", job)  # as before another job takes its node
    while slurm.jobs() != {job: ("RUNNING", "1")}:
        time.sleep(0.2)
    until_it_trains(study, run)
    slurm.ask("scancel", job)
    done = again.ended()
    assert done.returncode == 3, done.stderr
    log = study / "slurm" / f"{job}_0_log.err"
    assert found(study)["failed"] == {run: f"cancelled, says SLURM of job {job}; see {log}"}
    assert log.is_file()


def test_jobs_that_slurm_refuses_are_told(slurm: Slurm, data: Path, tmp_path: Path) -> None:
    done = started(slurm, data, tmp_path / "study", *JOBS, "--slurm", "partition=no").ended()
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert line.startswith("error: SLURM takes no jobs") and "Invalid partition" in line


@pytest.mark.parametrize(
    ("name", "texts", "said"),
    [
        ("slrum", [], "use local or slurm"),
        ("local", ["time=10"], "add --executor slurm"),
        ("slurm", ["partition"], "write KEY=VALUE"),
        ("slurm", ["partiton=gpu"], "did you mean 'partition'"),
        ("slurm", ["time=4:00:00"], "give whole minutes"),
        ("slurm", ["array-parallelism=4"], "use --jobs"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(
    slurm: Slurm, name: str, texts: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        choose_executor(name, load_catalog(), jobs=1, slurm=read_options(texts))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(ConfigError, match=r"pip install 'medtl\[slurm\]'"):
            choose_executor("slurm", load_catalog(), jobs=1, slurm={})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no sbatch here"):
        choose_executor("slurm", load_catalog(), jobs=1, slurm={})
