"""The folder of a study: its settings, its splits, its runs and what became of them.

studies/<name>/ study.yaml plan.json splits/fold-0.json
                runs/<run>/ logs/<run>.jsonl state/<run>.json slurm/ source-after/<run>.json
                tuning/plan.json tuning/<search>.json tuning.db
                summary.json scores.csv tables.md tables.tex cost.md figures/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from medtl.config import TrainConfig, checked, write_config
from medtl.data.splits import write_splits
from medtl.errors import ConfigError, RunError, shown
from medtl.runtime.files import file_name
from medtl.runtime.leftovers import sweep
from medtl.runtime.records import Count, Flag, FolderName, Number, Record, read_record
from medtl.runtime.run_folder import check_writable, environment, write_text
from medtl.study.arms import PlannedRun
from medtl.study.config import StudyConfig, resolve_study
from medtl.study.trials.records import chosen_settings

if TYPE_CHECKING:
    from medtl.study.plan import StudyPlan

STUDIES = Path("studies")

STUDY, PLAN, SUMMARY = "study.yaml", "plan.json", "summary.json"

#: The largest number of runs in a study.
MOST_RUNS = 100_000


class RunRecord(Record):
    """A row of ``plan.json``; see :class:`medtl.study.arms.PlannedRun`."""

    name: FolderName
    arm: str
    network: str
    budget: str
    fold: Count
    seed: Count
    after: FolderName | Literal[""]
    settings: dict[str, Any]
    tuned: FolderName | Literal[""] = ""


class ArmRecord(Record):
    """What the comparison has to know of an arm; see :class:`medtl.study.arms.Arm`."""

    name: str
    role: Literal["", "control-a", "control-b"]
    own_control: str
    budgeted: Flag
    tuned_from: str = ""
    on_source: Count | None = None  #: None: weights from outside do not say
    validated: Flag = True


class PlanRecord(Record):
    """``plan.json``: the runs, and what is known of the data."""

    runs: Annotated[tuple[RunRecord, ...], Field(max_length=MOST_RUNS)]
    arms: tuple[ArmRecord, ...]
    synthetic: Flag
    metric: Literal["dice", "accuracy"]
    sites: tuple[str, ...] = ()  #: of a study that leaves each out, by fold
    warnings: tuple[str, ...] = ()


class State(Record):
    """What became of a run."""

    status: Literal["done", "failed"]
    reason: str = ""
    seconds: Number = 0.0
    cpu_seconds: Number = 0.0
    score: Number | None = (
        None  #: of a trial, on validation patients; None: its loss was not finite
    )
    same_as: FolderName | Literal[""] = ""  #: the run whose results it has, as both are equal
    gpu: str = ""  #: its name, where the run computed on one


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Every write is atomic; nothing is written outside ``path``."""

    path: Path

    @property
    def config(self) -> StudyConfig:
        return resolve_study(self.path / STUDY, {})

    @property
    def plan(self) -> PlanRecord:
        return read_record(self.path / PLAN, PlanRecord)

    def runs(self) -> list[PlannedRun]:
        return [PlannedRun(**dict(row)) for row in self.plan.runs]

    def is_done(self, name: str) -> bool:
        state = self.state(name)
        return state is not None and state.status == "done"

    def run(self, name: str) -> Path:
        return self.path / "runs" / name

    def settings(self, run: PlannedRun) -> TrainConfig:
        """Those of ``medtl train``, with the paths within the study."""
        is_trial = run.trial is not None
        split = self.trial_split(run.fold) if is_trial else self.split(run.fold)
        places = {"splits": split, "out": self.run(run.name)}
        init = {"init": str(self.run(run.after))} if run.after else {}
        own = chosen_settings(self.path, run.tuned) if run.tuned and not is_trial else {}
        return checked({**run.settings, **places, **init, **own})

    def split(self, fold: int) -> Path:
        return self.path / "splits" / f"fold-{fold}.json"

    def trial_split(self, fold: int) -> Path:
        """Without test patients."""
        return self.path / "splits" / f"trials-{fold}.json"

    def results(self, name: str) -> Path:
        """The run that holds the results of ``name``: of equal runs, one is trained."""
        state = self.state(name)
        return self.run(state.same_as if state and state.same_as else name)

    def state(self, name: str) -> State | None:
        """None: it has not ended yet."""
        path = self.path / self._state(name)
        return read_record(path, State) if path.is_file() else None

    def write_state(self, name: str, state: State) -> None:
        self._write(self._state(name), state.model_dump(mode="json"))

    def forget_state(self, name: str) -> None:
        """What is written from now on is of another try."""
        (self.path / self._state(name)).unlink(missing_ok=True)

    def _state(self, name: str) -> Path:
        return Path("state") / f"{name}.json"

    def write_log(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """A line per thing that the run told; those of an earlier part stay."""
        path = self.path / "logs" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        write_text(path, before + "".join(json.dumps(row) + "\n" for row in rows))

    def write_json(self, name: str, value: Any) -> None:
        self._write(Path(name), value)

    def _write(self, name: Path, value: Any) -> None:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(value, indent=2) + "\n")


def is_study(path: Path) -> bool:
    """Whether ``path`` is the folder of a study."""
    return (path / STUDY).is_file() and (path / PLAN).is_file()


def sweep_study(path: Path) -> None:
    """Remove what killed processes left in the folder of a study; each run sweeps its own."""
    sweep(path)
    for part in path.iterdir():
        if part.is_dir() and part.name != "runs":
            sweep(part, deep=True)


def begun_file(out: Path | None) -> Path | None:
    """The settings of the study in ``out``, if there is one."""
    return out / STUDY if out and is_study(out) else None


def open_study(path: Path) -> StudyFolder:
    """An existing study, to ask it something.

    Raises:
        ConfigError: it leaves each site out, and so has no control to compare with.
        RunError: there is none.
    """
    if not is_study(path):
        raise RunError(f"{path} is not the folder of a study, which medtl compare writes")
    folder = StudyFolder(path)
    if folder.config.leave_site_out:
        raise ConfigError(
            f"{path}: this study leaves each site out; it has no controls, which power, similarity "
            "and transferability start from"
        )
    return folder


def begun(path: Path, config: StudyConfig) -> StudyFolder | None:
    """The study that was begun in ``path``; None where there is none yet.

    Raises:
        ConfigError: it was begun with other settings; names one.
        RunError: ``path`` holds something else.
    """
    if not path.exists():
        check_writable(path)
        return None
    if not is_study(path):
        sweep(path)
        if path.is_dir() and all(each.name in _STARTED for each in path.iterdir()):
            check_writable(path)
            return None
        raise RunError(f"{path} exists and is not the folder of a study; choose another --out")
    folder = StudyFolder(path)
    then, now = (_flat(each.model_dump(mode="json")) for each in (folder.config, config))
    for name in {**then, **now}:
        if then.get(name) != now.get(name):
            raise ConfigError(
                f"{path}: the study was begun with {name} {shown(then.get(name))}, not "
                f"{shown(now.get(name))}; give the same settings, or another --out"
            )
    return folder


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of ``medtl train`` beside those of the study."""
    settings = {f"settings.{name}": value for name, value in config.pop("settings").items()}
    return {**config, **settings}


#: What a study holds before it can be gone on with.
_STARTED = (STUDY, "splits", "tuning", "environment.json", ".lock")


def start_study(path: Path, config: StudyConfig, plan: StudyPlan) -> StudyFolder:
    """Write settings, splits and runs. ``plan.json`` comes last: with it, the study has begun."""
    folder = StudyFolder(path)
    write_config(path / STUDY, config)
    folder.write_json("environment.json", environment())
    for fold, split in enumerate(plan.splits):
        folder.split(fold).parent.mkdir(exist_ok=True)
        write_splits(folder.split(fold), split, plan.cases)
        if plan.tuning:
            write_splits(folder.trial_split(fold), replace(split, test=()), plan.cases)
    if plan.tuning:
        from medtl.study.trials.plan import searches  # imports torch

        found = searches(plan.runs, plan.arms, plan.tuning, plan.cases, plan.splits)
        folder.write_json("tuning/plan.json", found.model_dump(mode="json"))
    body = {
        "runs": [_row(run) for run in plan.runs],
        "arms": [
            {name: getattr(arm, name) for name in ArmRecord.model_fields} for arm in plan.arms
        ],
        "synthetic": plan.synthetic,
        "metric": plan.metric,
        "sites": list(plan.sites),
        "warnings": list(plan.warnings),
    }
    folder.write_json(PLAN, body)
    return folder


def _row(run: PlannedRun) -> dict[str, Any]:
    row = run.to_json()
    return {name: row[name] for name in RunRecord.model_fields}


def folder_for(config: StudyConfig) -> Path:
    """``studies/<task>-<n>``: of a study with these settings that lacks runs, or a new one."""
    stem, number = file_name(config.task.rpartition(":")[2]), 1
    while (path := STUDIES / f"{stem}-{number:02d}").exists():
        if is_study(path):
            folder = StudyFolder(path)
            lacking = not all(folder.is_done(run.name) for run in folder.plan.runs)
            if lacking and folder.config == config:
                return path
        number += 1
    return path
