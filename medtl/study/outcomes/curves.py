"""Validation scores of a run over its steps on the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from medtl.runtime.records import read_lines, read_stages
from medtl.runtime.run_folder import STAGES
from medtl.training.loop import ROWS, TIMES
from medtl.transfer.strategies.base import SOURCE


@dataclass(frozen=True, slots=True)
class Point:
    """A validation. ``score``: the mean over regions or classes, by which weights are selected.

    ``seconds``: of training until then; None: the run did not keep it.
    """

    step: int
    score: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The validations of all stages, one after the other; ``steps`` are those of training."""

    points: tuple[Point, ...]
    steps: int

    def first(self, target: float) -> Point | None:
        """The first validation whose score is at least ``target``."""
        return next((point for point in self.points if point.score >= target), None)


def read_curve(path: Path) -> Curve:
    """Of a finished run. A stage named ``source`` is left out: it does not train on the target.

    Raises:
        RunError: a line cannot be read; names it.
    """
    points: list[Point] = []
    steps, spent = 0, 0.0
    for stage in read_stages(path / STAGES):
        rows, times = path / stage / ROWS, path / stage / TIMES
        if stage == SOURCE or not rows.is_file():
            continue
        lines = read_lines(rows)
        seconds = {row["step"]: spent + row["seconds"] for row in _lines(times)}
        points += [
            Point(steps + row["step"], fmean(scores.values()), seconds.get(row["step"]))
            for row in lines
            if (scores := row.get("validation"))
        ]
        steps += max((row["step"] for row in lines), default=0)
        spent = max(seconds.values(), default=spent)
    return Curve(tuple(points), steps)


def _lines(path: Path) -> list[dict[str, float]]:
    return read_lines(path) if path.is_file() else []
