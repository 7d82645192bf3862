"""Any score of an arm of a study, over patients, whose runs are averaged first.

Axes: N case, L class, R replicate (weights of the cases).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import ConfigError
from medtl.evaluation.class_metrics import (
    ALL,
    BOUNDS,
    OVERALL,
    class_scores,
    truth_and_probability,
)
from medtl.evaluation.intervals import Interval, interval, set_intervals
from medtl.evaluation.scores import read_scores
from medtl.runtime.records import read_stages
from medtl.runtime.run_folder import STAGES, Run
from medtl.study.folder import StudyFolder
from medtl.study.recipes.config import Figure

Rows = list[dict[str, Any]]


def arm_score(folder: StudyFolder, figure: Figure) -> tuple[Interval, int] | None:
    """The score that the figure names, and of how many runs; None where none has ended.

    Folds are pooled, and a seed counts where all of its folds have ended.

    Raises:
        ConfigError: the study has no such network, or its cases have no such score.
    """
    runs = [run for run in folder.runs() if run.arm == figure.arm]
    if not runs:  # an arm that could not be planned, such as joint
        return None
    network = figure.network or runs[0].network
    budget = figure.budget or runs[-1].budget  # budgets are in order, the largest last
    chosen = [run for run in runs if (run.network, run.budget) == (network, budget)]
    if not chosen:
        raise ConfigError(f"the sound study has no arm {figure.arm} of {network}, budget {budget}")
    seeds: dict[int, Rows] = {}
    for seed in sorted({run.seed for run in chosen}):
        own = [run for run in chosen if run.seed == seed]
        if all(folder.is_done(run.name) for run in own):
            seeds[seed] = [row for run in own for row in case_rows(folder.run(run.name))]
    if not seeds:
        return None
    ended = len([run for run in chosen if run.seed in seeds])
    if folder.plan.metric == "dice":
        return of_regions(list(seeds.values()), figure.metric, figure.output), ended
    return of_classes(list(seeds.values()), figure.metric, figure.output), ended


def case_rows(path: Path) -> Rows:
    """The test cases of the last stage of a run."""
    stage = read_stages(path / STAGES)[-1]
    return [dict(row) for row in read_scores(Run(path)).cases if row["stage"] == stage]


def of_classes(seeds: Sequence[Rows], metric: str, output: str) -> Interval:
    """A score of the set of cases, of each seed, averaged; the interval is over patients."""
    classes = [name.removeprefix("p_") for name in seeds[0][0] if name.startswith("p_")]
    if output != ALL and output not in classes:
        raise ConfigError(f"figure of class {output!r}; the classes are {', '.join(classes)}")
    key = (ALL if output == ALL else str(classes.index(output)), metric)
    if key[0] == ALL and metric not in OVERALL:
        raise ConfigError(f"{metric} is a score of one class; name it by output")
    by_case = [{str(row["case"]): row for row in rows} for rows in seeds]
    cases = sorted(set.intersection(*(set(rows) for rows in by_case)))
    read = [truth_and_probability([_row(rows[c], classes) for c in cases]) for rows in by_case]
    patients = [str(by_case[0][case]["patient"]) for case in cases]
    if key == (ALL, "accuracy") and len(set(patients)) == len(cases):  # as the study has it
        hits = [(found_NL.argmax(axis=1) == truth_N).tolist() for truth_N, found_NL in read]
        by_patient = zip(patients, zip(*hits, strict=True), strict=True)
        return interval({who: [float(hit) for hit in own] for who, own in by_patient})

    def measured(weights_RN: NDArray[np.float64]) -> Mapping[tuple[str, str], NDArray[np.float64]]:
        every = [class_scores(truth_N, found_NL, weights_RN)[key] for truth_N, found_NL in read]
        return {key: np.mean(every, axis=0)}

    found = set_intervals(measured, patients, {key: BOUNDS[metric]}, {key: len(set(patients))})
    return found[key]


def _row(row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {"class": str(row["class"]), "probability": {c: row[f"p_{c}"] for c in classes}}


def of_regions(seeds: Sequence[Rows], metric: str, output: str) -> Interval:
    """The mean over patients, whose cases and seeds are averaged first."""
    values: dict[str, list[float]] = {}
    for rows in seeds:
        for row in rows:
            value = row.get(metric)
            if row["region"] == output and isinstance(value, float) and isfinite(value):
                values.setdefault(str(row["patient"]), []).append(value)
    if not values:
        raise ConfigError(f"no test case has a {metric} of region {output!r}")
    wide = metric.endswith(("_mm", "_ml"))
    return interval(values, bounds=(0.0, inf if wide else 1.0))
