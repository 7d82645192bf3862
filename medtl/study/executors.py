"""Where the runs of a study are carried out: here, in processes, or as jobs of SLURM."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import Any

from medtl.errors import ConfigError, Interrupted, shown
from medtl.plugins.catalog import Catalog
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder
from medtl.study.work import Ended, Executor, work


def choose_executor(
    name: str, catalog: Catalog, *, jobs: int, slurm: Mapping[str, Any]
) -> Executor:
    """The executor of that name.

    Args:
        jobs: runs at once.
        slurm: see :func:`medtl.study.slurm.on_slurm`.

    Raises:
        ConfigError: there is none, or it cannot be used here.
    """
    if name == "slurm":
        from medtl.study.slurm import on_slurm

        return on_slurm(slurm, jobs)
    if name != "local":
        raise ConfigError(f"--executor {shown(name)}: use local or slurm")
    if slurm:
        raise ConfigError("--slurm is for jobs of SLURM; add --executor slurm")
    return in_turn(catalog) if jobs == 1 else in_processes(jobs, catalog)


def in_turn(catalog: Catalog) -> Executor:
    """One run after the other, in this process."""

    def execute(folder: StudyFolder, runs: Iterable[PlannedRun]) -> Ended:
        for run in runs:
            yield run, work(folder.path, run, catalog)

    return execute


def in_processes(jobs: int, catalog: Catalog) -> Executor:
    """``jobs`` runs at once, each in a process of its own; a single run in this one."""

    def execute(folder: StudyFolder, runs: Iterable[PlannedRun]) -> Ended:
        waiting = iter(runs)
        first = list(islice(waiting, 2))
        if len(first) < 2:
            yield from in_turn(catalog)(folder, first)
            return
        waiting = chain(first, waiting)
        context = get_context("spawn")
        stop = context.Event()
        threads = max(1, (os.cpu_count() or 1) // jobs)
        with ProcessPoolExecutor(
            jobs, context, initializer=_settle, initargs=(threads, stop)
        ) as pool:
            try:
                under_way = {_begun(pool, folder, run): run for run in islice(waiting, jobs)}
                while under_way:
                    ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in ended:
                        run = under_way.pop(future)
                        yield run, _ended(folder, run, future)
                    free = islice(waiting, jobs - len(under_way))
                    under_way |= {_begun(pool, folder, run): run for run in free}
            except BaseException:
                stop.set()
                for child in active_children():
                    child.terminate()  # each saves its run and ends it
                pool.shutdown(cancel_futures=True)
                raise

    return execute


def _begun(pool: ProcessPoolExecutor, folder: StudyFolder, run: PlannedRun) -> Future[State]:
    try:
        return pool.submit(_work, folder.path, run)
    except BrokenProcessPool as problem:
        broken: Future[State] = Future()
        broken.set_exception(problem)
        return broken


def _ended(folder: StudyFolder, run: PlannedRun, future: Future[State]) -> State:
    """What became of the run, also where its process was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        state = folder.state(run.name)
        if state is None:
            reason = "its process, or one beside it, was killed (was memory short?)"
            state = State(status="failed", reason=reason)
            folder.write_state(run.name, state)
        return state


#: Set when the command is stopped, so that no process begins another run.
_stop: Event | None = None


def _work(path: Path, run: PlannedRun) -> State:
    if _stop is not None and _stop.is_set():
        raise Interrupted(f"stopped before run {run.name}")
    try:
        return work(path, run)
    except Interrupted:
        if _stop is not None:
            _stop.set()
        raise


def _settle(threads: int, stop: Event) -> None:
    """Share the cores, and end when the command does, even where it is killed.

    Else the run would go on unseen, and the same command again would find it held.
    """
    import torch

    global _stop
    _stop = stop
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
