"""Scores of a run's stages: as measured, or read back from its folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtl.errors import RunError
from medtl.evaluation.tables import LABELS, tables_of
from medtl.runtime.files import read_cell
from medtl.runtime.run_folder import SUMMARY, Run
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table

#: The tables of cases that a run may hold.
_TABLES = ("metrics.csv", "predictions.csv")


@dataclass(frozen=True, slots=True, repr=False)
class Scores(Shown):
    """Of each stage, on patients that its training has not seen.

    ``summary``: stage -> region or class ("all": classes together) -> metric -> mean, low, high, n,
    method. ``data``: what was scored, and what flatters it (``leak``). ``cases``: a row per stage,
    case and region, the metrics as keys. ``missing``: with modalities missing, if that was asked:
    stage -> {"modality_dropout": share, "dice": modalities left -> region -> interval}.
    ``by_stage``: the rows of each stage as they were measured; empty of a run read back.
    """

    data: Mapping[str, Any]
    summary: Mapping[str, Any]
    cases: Sequence[Mapping[str, Any]]
    missing: Mapping[str, Any] = field(default_factory=dict)
    by_stage: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{', '.join(self.summary)} on {self.data['patients']} patients"

    @property
    def synthetic(self) -> bool:
        return bool(self.data["synthetic"])

    @property
    def leak(self) -> str:
        """What biases these scores upwards; "" if nothing is known to."""
        return str(self.data["leak"])

    def rows(self) -> list[dict[str, Any]]:
        """One per stage, output (region or class) and metric, with its interval and n."""
        return [
            {"stage": stage, "output": output, "metric": metric, **interval}
            for stage, outputs in self.summary.items()
            for output, metrics in outputs.items()
            for metric, interval in metrics.items()
        ]

    def tables(self, *, details: bool = True) -> list[Table]:
        """Scores, differences from the controls and, where scored, missing modalities.

        ``details``: also each class and the probabilities.
        """
        return tables_of(self.summary, self.data, self.missing, details=details)

    def to_json(self) -> dict[str, Any]:
        """``data`` beside the stages, in one object; ``missing_modalities`` where it was scored."""
        missing = {"missing_modalities": self.missing} if self.missing else {}
        return {"data": dict(self.data), **self.summary, **missing}


def flat(by_stage: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Measured rows with their metrics, and the probabilities of classes (``p_CLASS``), as keys."""
    return [_flat(stage, row) for stage, rows in by_stage.items() for row in rows]


def _flat(stage: str, row: Mapping[str, Any]) -> dict[str, Any]:
    shares = {f"p_{name}": value for name, value in row.get("probability", {}).items()}
    known = {key: row[key] for key in row if key not in ("metrics", "probability", "predicted")}
    predicted = {"predicted": row["predicted"]} if "predicted" in row else {}
    return {"stage": stage, **known, **row.get("metrics", {}), **shares, **predicted}


def read_scores(run: Run) -> Scores:
    """Those of a finished run. Raises RunError where they are damaged."""
    from medtl.runtime.records import (  # pydantic is slow to import
        STAGE_SCORES,
        WHOLE_SUMMARY,
        Facts,
        checked,
        read_record,
    )

    path = run.path / SUMMARY
    summary = read_record(path, WHOLE_SUMMARY)
    data = summary.pop("data", None)
    checked(Facts, data, f"{path}: data")
    checked(STAGE_SCORES, summary, path)
    try:
        scores = Scores(data or {}, summary, _read_cases(run.path))
        scores.tables()  # which read what else there is
    except (OSError, LookupError, TypeError, ValueError, AttributeError, csv.Error) as problem:
        reason = f"{type(problem).__name__}: {problem}"[:200]
        raise RunError(f"{run.path}: the scores are damaged ({reason}); score it anew") from problem
    return scores


def _read_cases(folder: Path) -> list[dict[str, Any]]:
    path = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    if path is None:
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                # Names of patients and classes stay text, even where they look like numbers.
                key: float(value)
                if value and (key in LABELS or key.startswith("p_"))
                else read_cell(value)
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]
