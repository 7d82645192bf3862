"""Validation scores of a run over its steps on the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from medtl.runtime.records import read_lines, read_stages, readable_lines
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
    """The validations of all stages on the target, one after the other, and their steps."""

    points: tuple[Point, ...]
    steps: int
    source_steps: int = 0  #: of a stage ``source`` of the same run

    def first(self, target: float) -> Point | None:
        """The first validation whose score is at least ``target``."""
        return next((point for point in self.points if point.score >= target), None)


def read_curve(path: Path) -> Curve:
    """Of a finished run; a stage named ``source`` is not on the target.

    Raises:
        RunError: a line cannot be read; names it.
    """
    points: list[Point] = []
    steps, source_steps, spent = 0, 0, 0.0
    for stage in read_stages(path / STAGES):
        rows, times = path / stage / ROWS, path / stage / TIMES
        lines = read_lines(rows) if rows.is_file() else []
        last = max((row["step"] for row in lines), default=0)
        if stage == SOURCE:
            source_steps += last
            continue
        seconds = {step: spent + own for step, own in _seconds(times).items()}
        points += [
            Point(steps + row["step"], fmean(scores.values()), seconds.get(row["step"]))
            for row in lines
            if (scores := row.get("validation"))
        ]
        steps += last
        spent = max(seconds.values(), default=spent)
    return Curve(tuple(points), steps, source_steps)


def _seconds(path: Path) -> dict[int, float]:
    """Step -> seconds, as far as they can be read: scores do not depend on them."""
    rows = readable_lines(path)[0] if path.is_file() else []
    return {row["step"]: row["seconds"] for row in rows if isinstance(row.get("seconds"), float)}
