"""The table of a recipe: reported, as published, sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtl.evaluation.tables import score_cell, titled
from medtl.runtime.table import Table
from medtl.study.recipes.config import Recipe

COLUMNS = ("figure", "reported")


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: as reported, and the scores of both halves; None where there is none."""

    name: str
    metric: str
    reported: float | str | None
    published: Mapping[str, Any] | None
    sound: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "reported": self.reported,
            "as_published": None if self.published is None else dict(self.published),
            "sound": None if self.sound is None else dict(self.sound),
        }


def recipe_table(
    recipe: Recipe,
    rows: Sequence[Row],
    leaks: Sequence[str],
    doubts: Sequence[str],
    *,
    synthetic: bool,
) -> Table:
    """``leaks``: sentences on what flatters the scores as published; ``doubts``: on the data."""
    loud = "as published (leaks), this run" if leaks else "as published, this run"
    body = tuple(
        (
            row.name,
            "" if row.reported is None else _reported(row.reported),
            _cell(row.metric, row.published, with_interval=False),
            _cell(row.metric, row.sound, with_interval=True),
        )
        for row in rows
    )
    notes = [f"Why they differ: {recipe.why}"]
    notes += [f"Leak, kept on purpose: {told}" for told in leaks]
    notes += [f"Not known: {told}" for told in doubts]
    notes += [f"Departure: {text}" for text in recipe.departures]
    notes += [
        f"Source: {recipe.source}.",
        "Sound: 95% interval over patients, whose runs are averaged first. In scores of classes "
        "every test image counts alike; the study's own tables average a patient's images first.",
    ]
    columns = (*COLUMNS, loud, "sound, this run")
    return Table(titled(recipe.title, synthetic), columns, body, tuple(notes))


def _reported(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _cell(metric: str, found: Mapping[str, Any] | None, *, with_interval: bool) -> str:
    if found is None:
        return ""
    if with_interval:
        return f"{score_cell(metric, found, listed=False)}, n = {found['n']}"
    bare = score_cell(metric, {**found, "low": None, "high": None}, listed=False)
    return bare.removesuffix(", no interval")
