"""Scores with their intervals, as measured or as read back from a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.api.shown import Shown
from medtl.errors import RunError

if TYPE_CHECKING:
    from medtl import scoring
    from medtl.report.tables import Table
    from medtl.runs import Run

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
        from medtl.report.tables import tables_of

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


def read_scores(run: Run, summary: Mapping[str, Any]) -> Scores:
    """Those of a finished run, whose ``summary.json`` holds ``summary``."""
    try:
        stages = {name: found for name, found in summary.items() if name != "data"}
        return Scores(dict(summary["data"]), stages, _read_cases(run.path))
    except (LookupError, TypeError, ValueError) as problem:
        raise RunError(f"{run.path}: the scores are damaged ({problem})") from problem


def _read_cases(folder: Path) -> list[dict[str, Any]]:
    from medtl.report.tables import LABELS

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
