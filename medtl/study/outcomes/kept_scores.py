"""Scores on the source after a transfer, kept in the study's folder: each run is scored once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from medtl.runtime.records import Number, Record, read_record
from medtl.study.folder import StudyFolder


class SourceAfter(Record):
    """``scores``: output -> patient -> score; ``reason``: why there are none."""

    scores: dict[str, dict[str, Number]] = Field(default_factory=dict)
    reason: str = ""
    mapped: bool = False  #: whether the first layer was adapted to the source's modalities


def read_source_after(folder: StudyFolder, run: str) -> SourceAfter | None:
    """None: the run was not scored yet."""
    path = folder.path / _name(run)
    return read_record(path, SourceAfter) if path.is_file() else None


def keep_source_after(folder: StudyFolder, run: str, found: SourceAfter) -> None:
    folder.write_json(str(_name(run)), found.model_dump(mode="json"))


def forget_source_after(folder: StudyFolder, run: str) -> None:
    """The run is trained anew."""
    (folder.path / _name(run)).unlink(missing_ok=True)


def _name(run: str) -> Path:
    return Path("source-after") / f"{run}.json"
