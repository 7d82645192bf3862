"""The scores of a study's runs, by patient and run, as they stand in the runs' folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.errors import RunError
from medtl.evaluation.class_metrics import hits_by_patient
from medtl.evaluation.comparison.effects import RunKey, Runs
from medtl.evaluation.intervals import patient_means
from medtl.evaluation.metrics import dice_by_patient, found_by_patient
from medtl.evaluation.scores import read_scores
from medtl.runtime.records import read_stages
from medtl.runtime.run_folder import STAGES, Run
from medtl.study.folder import StudyFolder
from medtl.transfer.strategies.base import SOURCE

#: A network, an arm and a budget.
Cell = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class RunScores:
    """One score per patient, by region or class.

    ``found``: of the cases that have the region; empty of classes.
    """

    scores: Mapping[str, Mapping[str, float]]
    found: Mapping[str, Mapping[str, float]]


def read_run_scores(path: Path, metric: str) -> RunScores:
    """Of the last stage of a finished run. Raises RunError where it is damaged."""
    run = Run(path)
    stage = read_stages(path / STAGES)[-1]
    flat = [row for row in read_scores(run).cases if row["stage"] == stage]
    if not flat:
        raise RunError(f"{path}: stage {stage} was scored on no test patient")
    try:
        if metric != "dice":
            return RunScores(_means(hits_by_patient(flat)), {})
        rows = [
            {**{key: str(row[key]) for key in ("case", "patient", "region")}, "metrics": row}
            for row in flat
        ]
        return RunScores(_means(dice_by_patient(rows)), _means(found_by_patient(rows)))
    except (LookupError, TypeError, ValueError) as problem:
        raise RunError(f"{path}: the scores are damaged ({problem}); train it anew") from problem


def _means(
    by_output: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, dict[str, float]]:
    return {output: patient_means(values) for output, values in by_output.items() if values}


def by_patient(runs: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """The scores of each patient's runs."""
    found: dict[str, list[float]] = {}
    for values in runs:
        for patient, value in values.items():
            found.setdefault(patient, []).append(value)
    return found


@dataclass(frozen=True, slots=True)
class StudyScores:
    """By cell and run: what each arm scored.

    ``cells``: network, arm, budget -> (fold, seed) -> scores. An arm without a budget stands under
    every budget.
    """

    cells: Mapping[Cell, Mapping[RunKey, RunScores]]
    metric: str

    def networks(self) -> list[str]:
        return list(dict.fromkeys(network for network, _, _ in self.cells))

    def in_order(self) -> list[Cell]:
        """By network and budget; arms stay in the order of the plan."""
        networks = self.networks()
        budgets = list(dict.fromkeys(budget for _, _, budget in self.cells))
        return sorted(self.cells, key=lambda c: (networks.index(c[0]), budgets.index(c[2])))

    def outputs(self) -> list[str]:
        """Regions, or ``all`` of classes."""
        every = (scores.scores for runs in self.cells.values() for scores in runs.values())
        return list(dict.fromkeys(output for scores in every for output in scores))

    def runs(self, cell: Cell, output: str, *, found: bool = False) -> Runs:
        """run -> patient -> score; ``found``: of the cases that have the region."""
        every = self.cells.get(cell, {})
        picked = {
            key: (each.found if found else each.scores).get(output) for key, each in every.items()
        }
        return {key: values for key, values in picked.items() if values}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One per score, for ``scores.csv``."""
        for (network, arm, budget), runs in self.cells.items():
            for (fold, seed), each in runs.items():
                for output, patients in each.scores.items():
                    for patient, value in patients.items():
                        yield {
                            "network": network,
                            "arm": arm,
                            "budget": budget,
                            "fold": fold,
                            "seed": seed,
                            "output": output,
                            "patient": patient,
                            self.metric: value,
                        }


def read_study_scores(folder: StudyFolder) -> StudyScores:
    """Of every run that has ended; the source's own are left out."""
    plan = folder.plan
    cells: dict[Cell, dict[RunKey, RunScores]] = {}
    every = folder.runs()
    limited = {arm.name for arm in plan.arms if arm.budgeted}
    budgets = list(dict.fromkeys(run.budget for run in every if run.arm in limited))
    for run in every:
        if run.arm == SOURCE or not folder.is_done(run.name):
            continue
        scores = read_run_scores(folder.results(run.name), plan.metric)
        for budget in [run.budget] if run.arm in limited else budgets:
            cells.setdefault((run.network, run.arm, budget), {})[run.fold, run.seed] = scores
    return StudyScores(cells, plan.metric)
