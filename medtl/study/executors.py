"""Where the runs of a study are carried out: here, in processes, or as jobs of SLURM."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from medtl.errors import ConfigError, shown
from medtl.plugins.catalog import Catalog
from medtl.study.arms import PlannedRun
from medtl.study.folder import StudyFolder
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

    def execute(folder: StudyFolder, runs: Sequence[PlannedRun]) -> Ended:
        for run in runs:
            yield run, work(folder.path, run, catalog)

    return execute


def in_processes(jobs: int, catalog: Catalog) -> Executor:
    """``jobs`` runs at once, each in a process of its own; a single run in this one."""

    def execute(folder: StudyFolder, runs: Sequence[PlannedRun]) -> Ended:
        if len(runs) < 2:
            yield from in_turn(catalog)(folder, runs)
            return
        threads = max(1, (os.cpu_count() or 1) // jobs)
        with ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_settle, initargs=(threads,)
        ) as pool:
            yield from zip(runs, pool.map(partial(work, folder.path), runs), strict=True)

    return execute


def _settle(threads: int) -> None:
    """Share the cores, and end when the command does, even where it is killed.

    Else the run would go on unseen, and the same command again would find it held.
    """
    import torch

    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
