"""A run read back: settings, split, receipts, history, scores and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medtl.api.pictures import Pictures, read_pictures
from medtl.api.receipts import Receipt
from medtl.api.scores import Scores, read_scores
from medtl.api.settings import Where, path_of
from medtl.api.shown import Shown
from medtl.api.splits import Split
from medtl.errors import RunError

if TYPE_CHECKING:
    from medtl import runs
    from medtl.config import TrainConfig
    from medtl.report.tables import Table

Found = TypeVar("Found")


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
        from medtl.phantom.cohort import read_index

        if self.finished:
            return self.scores.synthetic
        data = self.config.data
        return data is None or bool(read_index(data))

    @property
    def config(self) -> TrainConfig:
        """Every setting, as it was resolved."""
        from medtl.config import TrainConfig, read_config
        from medtl.runs import CONFIG

        return read_config(self.path / CONFIG, TrainConfig)

    @property
    def finished(self) -> bool:
        from medtl.runs import SUMMARY

        return self._folder().has(SUMMARY)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that were started, in order; the controls come last."""
        return tuple(self.receipts)

    @property
    def scores(self) -> Scores:
        """Of the locked test patients. RunError for a run that is not finished."""
        from medtl.runs import SUMMARY

        if not self.finished:
            raise RunError(f"{self.path} is not finished: it has no scores yet; api.resume it")
        return read_scores(self._folder(), self._folder().read_json(SUMMARY))

    @property
    def split(self) -> Split:
        from medtl.runs import SPLITS

        return self._read(SPLITS, lambda content: Split.from_json(content[0]))

    @property
    def receipts(self) -> dict[str, Receipt]:
        """By stage, what became of every tensor; empty before the first stage."""
        from medtl import receipts
        from medtl.runs import RECEIPTS

        if not self._folder().has(RECEIPTS):
            return {}

        def read(content: dict[str, Any]) -> dict[str, Receipt]:
            found = {stage: receipts.Receipt.from_json(body) for stage, body in content.items()}
            return {stage: Receipt(stage, receipt) for stage, receipt in found.items()}

        return self._read(RECEIPTS, read)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per step: stage, step, loss, rate_scale, and at some steps validation scores."""
        from medtl.runs import read_lines

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
        from medtl.runs import ENVIRONMENT

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
        from medtl.runs import Run as Folder

        return Folder(self.path)

    def _read(self, name: str, read: Callable[[Any], Found]) -> Found:
        try:
            return read(self._folder().read_json(name))
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            raise RunError(f"{self.path / name} is damaged ({problem})") from problem


def open_run(path: Where) -> Run:
    """A run folder, finished or not. RunError if it is none."""
    from medtl.runs import open_run as recognise

    return Run(recognise(path_of(path)).path)
