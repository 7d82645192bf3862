"""What the calls return that nothing below knows: runs read back, plans, predictions, lists."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from medtl.api.settings import Where
from medtl.data.splits import PARTS, listed, read_run_fold
from medtl.errors import RunError
from medtl.evaluation.scores import Scores, read_scores
from medtl.evaluation.tables import warned
from medtl.runtime import run_folder
from medtl.runtime.files import from_home, read_cell
from medtl.runtime.run_folder import CONFIG, ENVIRONMENT, RECEIPTS, SPLITS, SUMMARY
from medtl.runtime.shown import Pictures, Shown, read_pictures
from medtl.runtime.table import Table
from medtl.transfer.receipt import Receipt, receipts_of

if TYPE_CHECKING:
    from medtl.config import TrainConfig
    from medtl.runtime.console import Recorder
    from medtl.training.preview import Preview

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, repr=False)
class Run(Shown, run_folder.Run):
    """A run folder; every attribute is read from it when asked. It stands for its path in every
    call that takes one. ``notes``: what training reported."""

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

        return read_config(self.path / CONFIG)

    @property
    def finished(self) -> bool:
        return self.has(SUMMARY)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that were started, in order; the controls come last."""
        return tuple(self.receipts)

    @property
    def scores(self) -> Scores:
        """Of the locked test patients. RunError for a run that is not finished."""
        if not self.finished:
            raise RunError(f"{self.path} is not finished: it has no scores yet; api.resume it")
        return read_scores(self)

    @property
    def split(self) -> Split:
        fold = read_run_fold(self.path / SPLITS)
        return Split(fold.train, fold.val, fold.test or (), fold.patients)

    @property
    def receipts(self) -> dict[str, Receipt]:
        """By stage, what became of every tensor; empty before the first stage."""
        if not self.has(RECEIPTS):
            return {}
        return receipts_of(self)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per step: stage, step, loss, rate_scale, and at some steps validation scores."""
        from medtl.runtime.records import read_lines  # pydantic is slow to import

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
        from medtl.runtime.records import checked

        return checked(dict[str, Any], self.read_json(ENVIRONMENT), self.path / ENVIRONMENT)

    def tables(self) -> list[Table]:
        return [*self.split.tables(), *(self.scores.tables() if self.finished else ())]

    def pictures(self) -> tuple[Pictures, ...]:
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


def open_run(path: Where) -> Run:
    """A run folder, finished or not. RunError if it is none."""
    return Run(run_folder.open_run(from_home(path)).path)


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
        rows = [
            (part, str(len(self.patients_of(part))), str(len(getattr(self, part))))
            for part in PARTS
        ]
        return [Table("Split by patient", ("part", "patients", "cases"), tuple(rows))]

    def to_json(self) -> dict[str, Any]:
        return {part: list(getattr(self, part)) for part in PARTS} | {
            "patients": dict(self.patients)
        }


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Shown):
    """``stages``: a row each, with its share of trainable parameters. ``receipts``: by stage, what
    its weights would start from; what is trained before it stands there as random weights would.
    ``seconds_per_step`` is None where a step does not fit the memory. ``notes``: all that
    ``medtl train --dry-run`` says beside the tables.
    """

    config: TrainConfig
    stages: tuple[Mapping[str, Any], ...]
    split: Split
    receipts: Mapping[str, Receipt]
    seconds_per_step: float | None
    notes: tuple[str, ...]
    reported: tuple[Table, ...]
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
        return [*self.reported, *self.split.tables()]

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "synthetic": self.synthetic,
            "stages": self.rows(),
            "split": self.split.to_json(),
            "receipts": {stage: receipt.to_json() for stage, receipt in self.receipts.items()},
            "seconds_per_step": self.seconds_per_step,
        }


def plan_of(preview: Preview, reported: Recorder) -> Plan:
    """What was decided before the first step, with all that was reported of it."""
    plan = preview.plan
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
        Split.from_json(listed(plan.split, plan.cohort.cases)),
        {s.stage.name: replace(s.receipt, whose=s.stage.name) for s in preview.stages},
        preview.seconds_per_step,
        tuple(reported.lines),
        tuple(reported.tables),
        plan.cohort.synthetic,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Predictions(Shown):
    """``files``: a label map per case, or ``predictions.csv``. ``notes``: what was reported.
    ``failed``: case -> why it could not be predicted."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    trained_on_synthetic: bool
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        what = f"{len(self.files)} files" if len(self.files) != 1 else self.files[0].name
        return f"{what} in {self.folder}"

    @property
    def synthetic(self) -> bool:
        """Whether what predicted was trained on the phantom alone."""
        return self.trained_on_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """Of classes: case, probability of each (``p_CLASS``), predicted. Else: case, file."""
        if [path.suffix for path in self.files] != [".csv"]:
            return [{"case": _case_of(path), "file": path} for path in self.files]
        with self.files[0].open(newline="", encoding="utf-8") as file:
            return [
                {
                    key: float(text) if key.startswith("p_") else read_cell(text)
                    for key, text in row.items()
                }
                for row in csv.DictReader(file)
            ]

    def tables(self) -> list[Table]:
        rows = self.rows()
        cells = [tuple(_cell(value) for value in row.values()) for row in rows]
        return [Table("Predictions", tuple(rows[0]), tuple(cells))] if rows else []

    def to_json(self) -> dict[str, Any]:
        rows = [
            {key: str(value) if isinstance(value, Path) else value for key, value in row.items()}
            for row in self.rows()
        ]
        return {"folder": str(self.folder), "synthetic": self.synthetic, "cases": rows}


def _case_of(path: Path) -> str:
    """The case that a label map is of, as the data set calls it (:mod:`medtl.runtime.files`)."""
    return unquote(path.name.removesuffix(".nii.gz").removesuffix(".png"))


def _cell(value: Any) -> str:
    if isinstance(value, Path):
        return value.name
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True, repr=False)
class Explanation(Shown):
    """``found`` is what ``saliency.json`` holds: the block explained and, where cases have masks,
    how well the maps find them."""

    folder: Path
    found: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        found = self.found
        return f"{found['method']} of {found['stage']}, {found['block']}: {found['images']} images"

    @property
    def synthetic(self) -> bool:
        return bool(self.found["synthetic"])

    @property
    def figures(self) -> Pictures:
        """cam, activations and, where the first layer looks at neighbours, filters."""
        return read_pictures(self.folder)

    def rows(self) -> list[dict[str, Any]]:
        """The scores of the maps, with intervals over patients; none without masks."""
        scores = self.found.get("localisation", {})
        return [{"score": name, **interval} for name, interval in scores.items()]

    def tables(self) -> list[Table]:
        from medtl.explain.localisation import localisation_table

        if "localisation" not in self.found:
            return []
        return warned([localisation_table(self.found)], self.found["leak"])

    def pictures(self) -> tuple[Pictures, ...]:
        return (self.figures.only("cam"),)

    def to_json(self) -> dict[str, Any]:
        return dict(self.found)


#: Rows of a printed table.
MOST_ROWS = 20


@dataclass(frozen=True, slots=True, repr=False)
class DataInfo(Shown):
    """A row per series (DICOM) or case, and the names of the tasks that read the data."""

    path: str
    format: str  #: "DICOM" or "cases"
    tasks: tuple[str, ...]
    listed: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    is_synthetic: bool = False

    @property
    def title(self) -> str:
        what = "series" if self.format == "DICOM" else "cases"
        read = f", read by {', '.join(self.tasks)}" if self.tasks else ""
        return f"{self.path}: {len(self.listed)} {what}{read}"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """As plain data."""
        return [dict(row) for row in self.listed]

    def tables(self) -> list[Table]:
        every = self.rows()
        keys = [key for key in every[0] if any(row[key] not in ("", None) for row in every)]
        if all(row.get("patient") == row.get("case") for row in every):
            keys.remove("patient")
        cells = tuple(tuple(_data_cell(row[key]) for key in keys) for row in every[:MOST_ROWS])
        notes = self.notes
        if len(every) > MOST_ROWS:
            notes = (f"and {len(every) - MOST_ROWS} more (--json lists all)", *notes)
        return [Table(self.title, tuple(keys), cells, notes)]

    def to_json(self) -> dict[str, Any]:
        """As ``medtl data info --json`` prints it."""
        return {
            "path": self.path,
            "format": self.format,
            "tasks": list(self.tasks),
            "notes": list(self.notes),
            "synthetic": self.is_synthetic,
            "rows": self.rows(),
        }


def _data_cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(f"{each:.4g}" for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True, repr=False)
class Conversion(Shown):
    """A data set that was written in another layout. ``notes``: what was reported. ``failed``:
    study in DICOM -> why it was left out."""

    folder: Path
    layout: str
    cases: tuple[str, ...]
    notes: tuple[str, ...]
    is_synthetic: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{len(self.cases)} cases in {self.folder}, as {self.layout}"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def to_json(self) -> dict[str, Any]:
        """As ``medtl data convert --json`` prints it."""
        return {**asdict(self), "folder": str(self.folder), "cases": list(self.cases),
                "notes": list(self.notes)}  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Phantom(Shown):
    """A synthetic cohort on disk; it stands for its path in every call that takes ``data``."""

    path: Path
    layout: str
    cases: int
    size: int
    sites: int
    seed: int
    shift: float

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def title(self) -> str:
        return (
            f"{self.cases} cases in the layout of {self.layout}, {self.sites} sites, "
            f"shift {self.shift:g}, {self.path.name}"
        )

    @property
    def synthetic(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path), "synthetic": True}


@dataclass(frozen=True, slots=True, repr=False)
class Listing(Shown):
    """Rows of equal keys."""

    what: str
    listed: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        return f"{len(self.listed)} {self.what}"

    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.listed]

    def names(self) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in self.listed)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)

    def tables(self) -> list[Table]:
        if not self.listed:
            return []
        cells = tuple(tuple(map(str, row.values())) for row in self.listed)
        return [Table(self.what, tuple(self.listed[0]), cells)]

    def to_json(self) -> list[dict[str, Any]]:
        return self.rows()
