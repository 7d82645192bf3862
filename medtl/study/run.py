"""Carry out the runs of a study that are not done yet, those first from which others start.

A run that has ended is not done again. One that was interrupted goes on. One that fails is
reported, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medtl.runtime.console import Reporter
from medtl.study.arms import PlannedRun
from medtl.study.folder import StudyFolder
from medtl.study.work import Executor


def carry_out(folder: StudyFolder, execute: Executor, reporter: Reporter) -> dict[str, str]:
    """Train what is not trained yet; returns the runs that failed, with the reasons.

    Raises:
        Interrupted: a signal came; the same call goes on.
    """
    every = folder.runs()
    failed: dict[str, str] = {}
    done = sum(folder.is_done(run.name) for run in every)
    if done:
        reporter.say(f"{done} of {len(every)} runs are done already")
    with reporter.progress("runs", len(every)) as advance:
        for wave in _waves(every):
            waiting = []
            for run in wave:
                if folder.is_done(run.name):
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
    return {run.name: failed[run.name] for run in every if run.name in failed}


def _waves(runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
    """Runs that others start from, then the others."""
    yield [run for run in runs if not run.after]
    yield [run for run in runs if run.after]
