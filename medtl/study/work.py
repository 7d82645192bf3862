"""One run of a study, from where it stands to its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

from medtl.errors import DivergedError, Interrupted, MedtlError, RunError
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.runtime.run_folder import CONFIG, SUMMARY, Run
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder
from medtl.study.outcomes.kept_scores import forget_source_after
from medtl.study.trials.validation import validation_score

#: Runs with what became of each, as they end.
Ended = Iterator[tuple[PlannedRun, State]]

#: Carries out runs of which none starts from another; takes the next one when it has room for it.
Executor = Callable[[StudyFolder, Iterable[PlannedRun]], Ended]


def work(path: Path, run: PlannedRun, catalog: Catalog | None = None) -> State:
    """One run from where it stands to its end; what became of it is written, too."""
    folder, recorder = StudyFolder(path), Recorder(silent=True)
    forget_source_after(folder, run.name)
    began, cpu = perf_counter(), process_time()
    try:
        catalog = catalog or load_catalog()
        state = State(status="done", gpu=_train(folder, run, catalog, recorder))
        if run.trial is not None:
            state = state.model_copy(update={"score": validation_score(folder.run(run.name))})
    except DivergedError as problem:
        # A trial has shown by it that its settings are too much.
        status: Literal["done", "failed"] = "failed" if run.trial is None else "done"
        state = State(status=status, reason=str(problem).split("; then go on with")[0])
    except Interrupted as problem:
        _log(folder, run, recorder, str(problem))
        raise Interrupted(f"stopped in run {run.name}") from None
    except MedtlError as problem:
        state = State(status="failed", reason=str(problem).split("; then go on with")[0])
    except Exception as problem:  # of a plugin, or for want of memory: the others go on
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:500]
        state = State(status="failed", reason=reason)
    seconds, cpu_seconds = perf_counter() - began, process_time() - cpu
    state = state.model_copy(update={"seconds": seconds, "cpu_seconds": cpu_seconds})
    _log(folder, run, recorder, state.reason or "done")
    folder.write_state(run.name, state)
    if run.trial is not None and state.status == "done":
        shutil.rmtree(folder.run(run.name), ignore_errors=True)  # weights that nobody needs
    elif state.status == "done" and run.after and catalog and not folder.config.leave_site_out:
        from medtl.study.outcomes.source_after import SourceScorer

        SourceScorer(folder, catalog)(run)  # here, as several runs are carried out at once
    return state


def _train(folder: StudyFolder, run: PlannedRun, catalog: Catalog, reporter: Reporter) -> str:
    """Returns the name of the GPU, "" where it is the processor that computes."""
    from medtl.runtime.device import gpu_name, own_randomness
    from medtl.training.launch import going_on, launch

    path = folder.run(run.name)
    with own_randomness():
        if not (path / CONFIG).is_file():
            launch(folder.settings(run), catalog, reporter)
        elif (rest := going_on(Run(path), {})) is not None:
            launch(rest, catalog, reporter, Run(path))
    if not (path / SUMMARY).is_file() and run.after and run.trial is None:
        raise RunError(f"{path}: nothing was scored, as no test patient has a label of the target")
    return gpu_name(folder.settings(run).device)


def _log(folder: StudyFolder, run: PlannedRun, recorder: Recorder, end: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows: list[dict[str, Any]] = [{"kind": "note", "text": line} for line in recorder.lines]
    for row in rows:
        text = row["text"]
        if text.startswith("warning: "):
            row |= {"kind": "warning", "text": text.removeprefix("warning: ")}
    folder.write_log(run.name, [*rows, {"kind": "end", "text": end, "time": now}])
