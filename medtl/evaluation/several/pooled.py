"""Scores of several runs of one arm together: folds are pooled, seeds averaged within patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtl.config import TrainConfig, read_config
from medtl.data.splits import read_splits
from medtl.errors import ConfigError, DataError, shortened
from medtl.evaluation import segmentation
from medtl.evaluation.class_metrics import ALL, hits_by_patient
from medtl.evaluation.evaluate import is_own
from medtl.evaluation.intervals import interval
from medtl.evaluation.scores import Scores
from medtl.evaluation.several.alike import arm_settings, check_once, check_task, differing, folds_of
from medtl.evaluation.tables import Summary, score_table, warned
from medtl.runtime.files import filled, unwritable, write_csv
from medtl.runtime.run_folder import CONFIG, SPLITS, Run, write_text
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table

_NOTE = (
    "A patient's runs are averaged first. The intervals tell how patients differ, not how another "
    "seed would turn out."
)


@dataclass(frozen=True, slots=True, repr=False)
class PooledScores(Shown):
    """Scores of several runs of one arm, and of all together.

    ``runs``: by path. ``summary``: stage -> region or class -> metric -> mean, low, high, n,
    method, over the patients of all runs; of classes their accuracy.
    """

    runs: Mapping[str, Scores]
    summary: Summary

    @property
    def title(self) -> str:
        return f"{', '.join(self.summary)} of {len(self.runs)} runs"

    @property
    def synthetic(self) -> bool:
        return any(scores.synthetic for scores in self.runs.values())

    def rows(self) -> list[dict[str, Any]]:
        """One per stage, output and metric, with its interval and n."""
        return [
            {"stage": stage, "output": output, "metric": metric, **found}
            for stage, outputs in self.summary.items()
            for output, metrics in outputs.items()
            for metric, found in metrics.items()
        ]

    def tables(self) -> list[Table]:
        classes = any(
            "accuracy" in found for each in self.summary.values() for found in each.values()
        )
        table = score_table(
            self.summary,
            self.synthetic,
            ("accuracy",) if classes else ("dice", "hd95_mm", "lesion_f1"),
            outputs="classes" if classes else "region",
            title=f"{len(self.runs)} runs together: patients not seen in training, "
            "mean [95% interval]",
        )
        every = list(self.runs.values())
        pixels = any(scores.data.get("unit") == "pixel" for scores in every)
        leaks = " ".join(dict.fromkeys(scores.leak for scores in every if scores.leak))
        return warned([replace(table, notes=(*table.notes, _NOTE))], leaks, pixels=pixels)

    def to_json(self) -> dict[str, Any]:
        """Each run's scores as of that run alone, then those of all together."""
        return {
            "runs": {path: scores.to_json() for path, scores in self.runs.items()},
            "pooled": self.summary,
        }


def check_alike(runs: Sequence[Run], data: Path | None, cases: str | None) -> None:
    """Refuse, before any work, runs whose scores cannot be pooled.

    ``data``, ``cases``: as of :func:`medtl.evaluation.evaluate.evaluate`.

    Raises:
        ConfigError: a run is named twice, or the runs are not of one arm.
        RunError: locked test sets overlap.
    """
    if not runs:
        raise ConfigError("name a run to evaluate, for example runs/first")
    check_once([run.path for run in runs])
    configs = {run.path: read_config(run.path / CONFIG) for run in runs}
    check_task(configs)
    first, *others = ((path, arm_settings(config)) for path, config in configs.items())
    for path, settings in others:
        if names := differing(first[1], settings):
            raise ConfigError(
                f"{first[0]} and {path} differ in {shortened(names)}; pool runs that differ in "
                f"seed or fold alone, or use medtl compare {first[0]} {path}"
            )
    locked = [path for path, config in configs.items() if _tests(config, data, cases)]
    folds_of({path: frozenset(read_splits(path / SPLITS).test) for path in locked})


def _tests(config: TrainConfig, data: Path | None, cases: str | None) -> bool:
    """Whether the locked test cases are scored."""
    return cases == "test" or (cases is None and is_own(data, config))


def pool(runs: Mapping[str, Scores]) -> PooledScores:
    """The mean over patients of each stage, whose runs are averaged within patients first.

    Raises:
        DataError: the runs have no stage in common that was scored.
    """
    common = [
        stage
        for stage in next(iter(runs.values())).by_stage
        if all(stage in scores.by_stage for scores in runs.values())
    ]
    if not common:
        raise DataError("the runs have no stage in common that was scored; name one by --stage")
    rows = {stage: [row for s in runs.values() for row in s.by_stage[stage]] for stage in common}
    return PooledScores(runs, {stage: _summary(own) for stage, own in rows.items()})


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if "metrics" in rows[0]:
        return segmentation.summarise(rows)
    accuracy = interval(hits_by_patient(rows)[ALL], share=True)
    return {ALL: {"accuracy": accuracy.to_json()}}


def write_scores(out: Path, runs: Mapping[str, Scores], tables: Sequence[Table]) -> None:
    """Write ``cases.csv``, ``scores.md`` and ``scores.tex`` into a new or empty folder."""
    rows = list(_case_rows(runs))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with filled(out) as partial:
            write_csv(
                partial / "cases.csv", columns, ([row.get(n) for n in columns] for row in rows)
            )
            write_text(partial / "scores.md", "\n".join(table.markdown() for table in tables))
            write_text(partial / "scores.tex", "\n".join(table.latex() for table in tables))
    except OSError as problem:
        raise unwritable(out, problem) from problem


def _case_rows(runs: Mapping[str, Scores]) -> Iterator[dict[str, Any]]:
    """One per run, stage, case and region; of classes per run, stage and case."""
    for path, scores in runs.items():
        for row in scores.cases:
            yield {"run": path, **{n: v for n, v in row.items() if not isinstance(v, Mapping)}}
