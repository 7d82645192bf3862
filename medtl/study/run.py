"""Carry out the runs of a study that are not done yet, those first from which others start.

A run that has ended is not done again. One that was interrupted goes on. One that fails is
reported, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medtl.errors import shortened
from medtl.runtime.console import Reporter
from medtl.runtime.run_folder import CONFIG
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder
from medtl.study.trials.execution import carry_out_trials, equal_runs
from medtl.study.work import Executor
from medtl.transfer.strategies.base import SOURCE


def carry_out(
    folder: StudyFolder, execute: Executor, reporter: Reporter, storage: str | None = None
) -> dict[str, str]:
    """Train what is not trained yet; returns the runs that failed, with the reasons.

    Args:
        storage: URL of the store of trials, where arms are tuned; None: a file in the study.

    Raises:
        Interrupted: a signal came; the same call goes on.
    """
    every = folder.runs()
    failed: dict[str, str] = {}
    _forget_lost(folder, every, reporter)
    done = sum(folder.is_done(run.name) for run in every)
    if done:
        reporter.say(f"{done} of {len(every)} runs are done already")
    if not any(run.tuned for run in every):
        _train(folder, every, execute, reporter, failed)
    else:
        _train(folder, [r for r in every if r.arm == SOURCE], execute, reporter, failed)
        searched = carry_out_trials(folder, storage, execute, failed, reporter)
        failed |= {run.name: searched[run.tuned] for run in every if run.tuned in searched}
        equal = equal_runs(folder, every)
        rest = [r for r in every if r.arm != SOURCE and r.name not in equal]
        _train(folder, rest, execute, reporter, failed)
        for name, trained in equal.items():
            if trained in failed:
                failed[name] = f"{trained} failed, which is the same"
            elif not folder.is_done(name):
                folder.write_state(name, State(status="done", same_as=trained))
    return {run.name: failed[run.name] for run in every if run.name in failed}


def _forget_lost(folder: StudyFolder, runs: Sequence[PlannedRun], reporter: Reporter) -> None:
    """Runs that have ended and whose folders are gone are trained again."""
    ended = [run.name for run in runs if folder.is_done(run.name)]
    lost = [name for name in ended if not (folder.results(name) / CONFIG).is_file()]
    for name in lost:
        folder.forget_state(name)
    if lost:
        reporter.warn(f"the folders of {shortened(lost)} are gone; they are trained again")


def _train(
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    execute: Executor,
    reporter: Reporter,
    failed: dict[str, str],
) -> None:
    """Some of the runs; adds to ``failed``."""
    done = sum(folder.is_done(run.name) for run in runs)
    with reporter.progress("runs", len(runs)) as advance:
        for wave in _waves(runs):
            waiting = []
            for run in wave:
                if folder.is_done(run.name) or run.name in failed:
                    continue
                if run.after in failed:
                    failed[run.name] = f"{run.after} failed, from which it starts"
                else:
                    waiting.append(run)
            for run, state in execute(folder, waiting):
                done += 1
                if state.status == "failed":
                    failed[run.name] = state.reason
                    reporter.warn(f"run {run.name} failed: {state.reason}")
                advance(done, f"{run.name}, {state.seconds:.0f} s")


def _waves(runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
    """Runs that others start from, then the others."""
    yield [run for run in runs if not run.after]
    yield [run for run in runs if run.after]
