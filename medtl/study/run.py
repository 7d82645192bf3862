"""Carry out the runs of a study, one after the other or several at once.

A run that has ended is not done again. One that was interrupted goes on. One that fails is
reported, and the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from medtl.config import TrainConfig, checked
from medtl.errors import Interrupted, MedtlError, RunError
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.runtime.run_folder import CONFIG, SUMMARY, Run
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder


def carry_out(
    folder: StudyFolder, catalog: Catalog, reporter: Reporter, *, jobs: int = 1
) -> dict[str, str]:
    """Train what is not trained yet; returns the runs that failed, with the reasons.

    Args:
        jobs: runs at once, each in a process of its own.

    Raises:
        Interrupted: a signal came; the same call goes on.
    """
    every = folder.runs()
    failed: dict[str, str] = {}
    done = sum(_is_done(folder, run) for run in every)
    if done:
        reporter.say(f"{done} of {len(every)} runs are done already")
    with reporter.progress("runs", len(every)) as advance:
        for wave in _waves(every):
            waiting = []
            for run in wave:
                if _is_done(folder, run):
                    continue
                if run.after in failed:
                    failed[run.name] = f"{run.after} failed, from which it starts"
                else:
                    waiting.append(run)
            for run, state in _worked(folder, waiting, catalog, jobs):
                done += 1
                if state.status == "failed":
                    failed[run.name] = state.reason
                    reporter.warn(f"run {run.name} failed: {state.reason}")
                advance(done, f"{run.name}, {state.seconds:.0f} s")
    return failed


def _waves(runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
    """Runs that others start from, then the others."""
    yield [run for run in runs if not run.after]
    yield [run for run in runs if run.after]


def _is_done(folder: StudyFolder, run: PlannedRun) -> bool:
    state = folder.state(run.name)
    return state is not None and state.status == "done"


def _worked(
    folder: StudyFolder, runs: Sequence[PlannedRun], catalog: Catalog, jobs: int
) -> Iterator[tuple[PlannedRun, State]]:
    """Each run with what became of it, in the order of ``runs``."""
    if jobs == 1 or len(runs) < 2:
        for run in runs:
            yield run, work(folder.path, run, catalog)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_limit_threads, initargs=(threads,)
    ) as pool:
        yield from zip(runs, pool.map(partial(work, folder.path), runs), strict=True)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def work(path: Path, run: PlannedRun, catalog: Catalog | None = None) -> State:
    """One run from where it stands to its end; what became of it is written, too."""
    folder, recorder = StudyFolder(path), Recorder(silent=True)
    began, cpu = perf_counter(), process_time()
    try:
        _train(folder, run, catalog or load_catalog(), recorder)
        state = State(status="done")
    except Interrupted as problem:
        _log(folder, run, recorder, str(problem))
        raise Interrupted(f"stopped in run {run.name}; the same command goes on") from None
    except (MedtlError, RuntimeError) as problem:
        state = State(status="failed", reason=str(problem).split("; then go on with")[0])
    seconds, cpu_seconds = perf_counter() - began, process_time() - cpu
    state = state.model_copy(update={"seconds": seconds, "cpu_seconds": cpu_seconds})
    _log(folder, run, recorder, state.reason or "done")
    folder.write_state(run.name, state)
    return state


def _train(folder: StudyFolder, run: PlannedRun, catalog: Catalog, reporter: Reporter) -> None:
    from medtl.runtime.device import own_randomness
    from medtl.training.launch import going_on, launch

    path = folder.run(run.name)
    with own_randomness():
        if not (path / CONFIG).is_file():
            launch(_settings(folder, run), catalog, reporter)
        elif (rest := going_on(Run(path), {})) is not None:
            launch(rest, catalog, reporter, Run(path))
    if not (path / SUMMARY).is_file() and run.after:
        raise RunError(f"{path}: nothing was scored, as no test patient has a label of the target")


def _settings(folder: StudyFolder, run: PlannedRun) -> TrainConfig:
    """The settings of ``medtl train``, with the paths within the study."""
    places = {"splits": folder.split(run.fold), "out": folder.run(run.name)}
    init = {"init": str(folder.run(run.after))} if run.after else {}
    return checked({**run.settings, **places, **init})


def _log(folder: StudyFolder, run: PlannedRun, recorder: Recorder, end: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows: list[dict[str, Any]] = [{"kind": "note", "text": line} for line in recorder.lines]
    for row in rows:
        text = row["text"]
        if text.startswith("warning: "):
            row |= {"kind": "warning", "text": text.removeprefix("warning: ")}
    folder.write_log(run.name, [*rows, {"kind": "end", "text": end, "time": now}])
