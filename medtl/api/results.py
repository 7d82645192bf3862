"""A run read back: settings, split, receipts, history, scores and figures."""

from __future__ import annotations

import csv
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from medtl.api.settings import Where, path_of
from medtl.errors import RunError, UnknownNameError

if TYPE_CHECKING:
    from medtl.config import TrainConfig
    from medtl.evaluation import evaluate as scoring
    from medtl.runtime import run_folder as runs
    from medtl.runtime.console import Recorder
    from medtl.runtime.table import Table
    from medtl.training.launch import Launched
    from medtl.transfer import receipt as receipts

Found = TypeVar("Found")


class Shown:
    """A result with a title; it says so wherever its data are synthetic."""

    __slots__ = ()

    @property
    def title(self) -> str:
        """What it is, in a line."""
        raise NotImplementedError

    @property
    def synthetic(self) -> bool:
        """Whether it rests on the synthetic phantom."""
        return False

    def tables(self) -> list[Table]:
        """For people; ``print(table.plain())`` or ``table.markdown()`` outside of a notebook."""
        return []

    def _more(self) -> Sequence[_Html]:
        """What a notebook shows below the tables."""
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._told()}>"

    def _told(self) -> str:
        return f"{self.title}; {SYNTHETIC}" if self.synthetic else self.title

    def _repr_html_(self) -> str:
        parts = [each._repr_html_() for each in (*self.tables(), *self._more())]
        return f"<div><p><b>{escape(self._told())}</b></p>{''.join(parts)}</div>"


@dataclass(frozen=True, slots=True, repr=False)
class Run(Shown):
    """A run folder; every attribute is read from it when asked. It stands for its path in every
    call that takes one. ``notes``: what training told."""

    path: Path
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def title(self) -> str:
        config = self.config
        state = "finished" if self.finished else "not finished"
        return f"{self.path.name}: {config.task}, {config.strategy}, {state}"

    @property
    def synthetic(self) -> bool:
        from medtl.data.phantom.cohort import read_index

        if self.finished:
            return self.scores.synthetic
        data = self.config.data
        return data is None or bool(read_index(data))

    @property
    def config(self) -> TrainConfig:
        """Every setting, as it was resolved."""
        from medtl.config import read_config
        from medtl.runtime.run_folder import CONFIG

        return read_config(self.path / CONFIG)

    @property
    def finished(self) -> bool:
        from medtl.runtime.run_folder import SUMMARY

        return self._folder().has(SUMMARY)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that were started, in order; the controls come last."""
        return tuple(self.receipts)

    @property
    def scores(self) -> Scores:
        """Of the locked test patients. RunError for a run that is not finished."""
        from medtl.runtime.run_folder import SUMMARY

        if not self.finished:
            raise RunError(f"{self.path} is not finished: it has no scores yet; api.resume it")
        return read_scores(self._folder(), self._folder().read_json(SUMMARY))

    @property
    def split(self) -> Split:
        from medtl.runtime.run_folder import SPLITS

        return self._read(SPLITS, lambda content: Split.from_json(content[0]))

    @property
    def receipts(self) -> dict[str, Receipt]:
        """By stage, what became of every tensor; empty before the first stage."""
        from medtl.runtime.run_folder import RECEIPTS
        from medtl.transfer import receipt as receipts

        if not self._folder().has(RECEIPTS):
            return {}

        def read(content: dict[str, Any]) -> dict[str, Receipt]:
            found = {stage: receipts.Receipt.from_json(body) for stage, body in content.items()}
            return {stage: Receipt(stage, receipt) for stage, receipt in found.items()}

        return self._read(RECEIPTS, read)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per step: stage, step, loss, rate_scale, and at some steps validation scores."""
        from medtl.runtime.run_folder import read_lines

        rows = []
        for stage in self.stages:
            path = self.path / stage / "metrics.jsonl"
            if path.is_file():
                rows += [{"stage": stage, **row} for row in read_lines(path, torn=True)]
        return rows

    @property
    def figures(self) -> Pictures:
        return read_pictures(self.path / "figures")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and machine."""
        from medtl.runtime.run_folder import ENVIRONMENT

        return dict(self._folder().read_json(ENVIRONMENT))

    def tables(self) -> list[Table]:
        return [*self.split.tables(), *(self.scores.tables() if self.finished else ())]

    def _more(self) -> tuple[Pictures, ...]:
        names = self.figures.names()
        return (self.figures.only(*(name for name in ("curves", "scores") if name in names)),)

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "finished": self.finished,
            "config": self.config.model_dump(mode="json"),
            "split": self.split.to_json(),
            "stages": list(self.stages),
            "scores": self.scores.to_json() if self.finished else None,
        }

    def _folder(self) -> runs.Run:
        from medtl.runtime.run_folder import Run as Folder

        return Folder(self.path)

    def _read(self, name: str, read: Callable[[Any], Found]) -> Found:
        try:
            return read(self._folder().read_json(name))
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            raise RunError(f"{self.path / name} is damaged ({problem})") from problem


def open_run(path: Where) -> Run:
    """A run folder, finished or not. RunError if it is none."""
    from medtl.runtime.run_folder import open_run as recognise

    return Run(recognise(path_of(path)).path)


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A figure as PNG; ``Path("curves.png").write_bytes(picture.png)`` keeps it."""

    name: str
    png: bytes

    def __repr__(self) -> str:
        return f"<Picture: {self.name}, {len(self.png) / 1000:.0f} kB>"

    def _repr_png_(self) -> bytes:
        return self.png

    def html(self) -> str:
        """An image that holds its own pixels."""
        name, pixels = escape(self.name), b64encode(self.png).decode("ascii")
        return f'<img alt="{name}" style="max-width:100%" src="data:image/png;base64,{pixels}">'


@dataclass(frozen=True, slots=True, repr=False)
class Pictures:
    """Figures by name, in the order of their names."""

    pictures: tuple[Picture, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(picture.name for picture in self.pictures)

    def __getitem__(self, name: str) -> Picture:
        for picture in self.pictures:
            if picture.name == name:
                return picture
        raise UnknownNameError("figure", name, self.names())

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def only(self, *names: str) -> Pictures:
        """Some of them, in this order."""
        return Pictures(tuple(self[name] for name in names))

    def __repr__(self) -> str:
        return f"<Pictures: {', '.join(self.names()) or 'none'}>"

    def _repr_html_(self) -> str:
        return "".join(f"<p>{picture.html()}</p>" for picture in self.pictures)


def read_pictures(folder: Path) -> Pictures:
    """Every PNG of a folder; none where there is no such folder."""
    try:
        found = sorted(path for path in folder.glob("*.png") if path.is_file())
        return Pictures(tuple(Picture(path.stem, path.read_bytes()) for path in found))
    except OSError as problem:
        raise RunError(f"cannot read {folder}: {problem.strerror}") from problem


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Shown):
    """``stages``: a row each, with its share of trainable parameters. ``receipts``: by stage, what
    its weights would start from; what is trained before it stands there as random weights would.
    ``seconds_per_step`` is None where a step does not fit the memory. ``notes``: all that
    ``medtl train --dry-run`` tells beside the tables.
    """

    config: TrainConfig
    stages: tuple[Mapping[str, Any], ...]
    split: Split
    receipts: Mapping[str, Receipt]
    seconds_per_step: float | None
    notes: tuple[str, ...]
    told: tuple[Table, ...]
    of_phantom: bool

    @property
    def title(self) -> str:
        steps = " + ".join(f"{row['stage']} {row['steps']}" for row in self.stages)
        return f"{self.config.task}, {self.config.strategy}: {steps} steps"

    @property
    def synthetic(self) -> bool:
        return self.of_phantom

    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.stages]

    def tables(self) -> list[Table]:
        return [*self.told, *self.split.tables()]

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "synthetic": self.synthetic,
            "stages": self.rows(),
            "split": self.split.to_json(),
            "receipts": {stage: receipt.to_json() for stage, receipt in self.receipts.items()},
            "seconds_per_step": self.seconds_per_step,
        }


def plan_of(launched: Launched, told: Recorder) -> Plan:
    plan, preview = launched.plan, launched.preview
    cases = plan.cohort.cases
    train, val, test = (
        tuple(sorted(case.id for case in cases if case.patient in getattr(plan.split, part)))
        for part in PARTS
    )
    rows = tuple(
        {
            "stage": each.stage.name,
            "domain": str(each.stage.domain),
            "steps": each.stage.steps,
            "init": each.stage.init,
            "frozen": each.stage.frozen,
            "optimizer": each.stage.optimizer,
            "rates": dict(each.stage.rates),
            "trainable": each.trainable,
            "transferred": each.receipt.transferred,
            "minutes": each.minutes,
        }
        for each in preview.stages
    )
    return Plan(
        plan.config,
        rows,
        Split(train, val, test, {case.id: case.patient for case in cases}),
        {each.stage.name: Receipt(each.stage.name, each.receipt) for each in preview.stages},
        preview.seconds_per_step,
        tuple(told.lines),
        tuple(told.tables),
        plan.cohort.synthetic,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Receipt(Shown):
    """``whose``: the stage, or the network, that took the weights."""

    whose: str
    found: receipts.Receipt

    @property
    def title(self) -> str:
        return f"{self.whose}: {self.found.transferred:.1%} of the parameters transferred"

    @property
    def transferred(self) -> float:
        """Share of the network's parameters that was loaded or adapted."""
        return self.found.transferred

    @property
    def shares(self) -> dict[str, float]:
        """Share of the parameters that was loaded, adapted, random; the sum is 1."""
        return self.found.shares()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.found.notes

    def rows(self) -> list[dict[str, Any]]:
        """One per tensor: name, block, status, shape, numel, source, note, ..."""
        return [asdict(row) for row in self.found.rows]

    def tables(self) -> list[Table]:
        from medtl.transfer.receipt_table import receipt_table

        return [receipt_table(self.whose, self.found)]

    def to_json(self) -> dict[str, Any]:
        return self.found.to_json()


#: The tables of cases that a run may hold.
_TABLES = ("metrics.csv", "predictions.csv")


@dataclass(frozen=True, slots=True, repr=False)
class Scores(Shown):
    """Of each stage, on patients that its training has not seen.

    ``summary``: stage -> region or class ("all": classes together) -> metric -> mean, low, high, n,
    method. ``data``: what was scored, and what flatters it (``leak``). ``cases``: a row per stage,
    case and region, the metrics as keys. ``missing``: with modalities missing, if that was asked.
    """

    data: Mapping[str, Any]
    summary: Mapping[str, Any]
    cases: Sequence[Mapping[str, Any]]
    missing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{', '.join(self.summary)} on {self.data['patients']} patients"

    @property
    def synthetic(self) -> bool:
        return bool(self.data["synthetic"])

    @property
    def leak(self) -> str:
        """What flatters these scores; "" where nothing is known to."""
        return str(self.data["leak"])

    def rows(self) -> list[dict[str, Any]]:
        """One per stage, output (region or class) and metric, with its interval and n."""
        return [
            {"stage": stage, "output": output, "metric": metric, **interval}
            for stage, outputs in self.summary.items()
            for output, metrics in outputs.items()
            for metric, interval in metrics.items()
        ]

    def tables(self) -> list[Table]:
        from medtl.evaluation.tables import tables_of

        return tables_of(self.summary, self.data, self.missing)

    def to_json(self) -> dict[str, Any]:
        """As ``medtl evaluate --json`` prints it."""
        missing = {"missing_modalities": self.missing} if self.missing else {}
        return {"data": dict(self.data), **self.summary, **missing}


def scores_of(found: scoring.Scores) -> Scores:
    """What was just measured."""
    cases = [_flat(stage, row) for stage, rows in found.rows.items() for row in rows]
    return Scores(found.data, found.summary, cases, found.missing)


def _flat(stage: str, row: Mapping[str, Any]) -> dict[str, Any]:
    shares = {f"p_{name}": value for name, value in row.get("probability", {}).items()}
    known = {key: row[key] for key in row if key not in ("metrics", "probability", "predicted")}
    predicted = {"predicted": row["predicted"]} if "predicted" in row else {}
    return {"stage": stage, **known, **row.get("metrics", {}), **shares, **predicted}


def read_scores(run: runs.Run, summary: Mapping[str, Any]) -> Scores:
    """Those of a finished run, whose ``summary.json`` holds ``summary``."""
    try:
        stages = {name: found for name, found in summary.items() if name != "data"}
        return Scores(dict(summary["data"]), stages, _read_cases(run.path))
    except (LookupError, TypeError, ValueError) as problem:
        raise RunError(f"{run.path}: the scores are damaged ({problem})") from problem


def _read_cases(folder: Path) -> list[dict[str, Any]]:
    from medtl.evaluation.tables import LABELS

    path = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    if path is None:
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                # Names of patients and classes stay text, even where they look like numbers.
                key: float(value) if value and (key in LABELS or key.startswith("p_")) else value
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


SYNTHETIC = "synthetic phantom"


class _Html(Protocol):
    def _repr_html_(self) -> str: ...


PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, repr=False)
class Split(Shown):
    """Cases by part, and the patient of each case."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    patients: Mapping[str, str]  #: case -> patient

    @classmethod
    def from_json(cls, fold: Mapping[str, Any]) -> Split:
        train, val, test = (tuple(map(str, fold[part])) for part in PARTS)
        return cls(train, val, test, dict(fold["patients"]))

    @property
    def title(self) -> str:
        counts = ", ".join(f"{len(self.patients_of(part))} {part}" for part in PARTS)
        return f"patients: {counts}"

    def patients_of(self, part: str) -> tuple[str, ...]:
        """Patients in "train", "val" or "test"."""
        return tuple(sorted({self.patients.get(case, case) for case in getattr(self, part)}))

    def rows(self) -> list[dict[str, Any]]:
        """case, patient, part."""
        return [
            {"case": case, "patient": self.patients.get(case, case), "part": part}
            for part in PARTS
            for case in getattr(self, part)
        ]

    def tables(self) -> list[Table]:
        from medtl.runtime.table import Table

        rows = [
            (part, str(len(self.patients_of(part))), str(len(getattr(self, part))))
            for part in PARTS
        ]
        return [Table("Split by patient", ("part", "patients", "cases"), tuple(rows))]

    def to_json(self) -> dict[str, Any]:
        return {part: list(getattr(self, part)) for part in PARTS} | {
            "patients": dict(self.patients)
        }
