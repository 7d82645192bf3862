"""How well the features of a study's sources suit the target, before anything is trained on it.

Of classification: LogME and H-score of the features of each training image, and LEEP and NCE of the
source's own classes. Of segmentation: LogME and H-score of voxels, each region against the rest,
within patients. Only training patients of the first fold are used. Whether the trained arms rank
alike can be told of three candidates or more: networks times sources.

Axes: N image or voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lightning_fabric import Fabric
from numpy.typing import NDArray

from medtl.data.case import Cohort
from medtl.data.splits import read_splits
from medtl.errors import DataError, MedtlError, RunError
from medtl.evaluation.intervals import patient_means
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.run_folder import SPLITS
from medtl.study.arms import PlannedRun
from medtl.study.config import budget_name, in_order
from medtl.study.features.trained_runs import (
    Source,
    ended_runs,
    open_cases,
    read_source,
    reference_stage,
    target_cases,
)
from medtl.study.features.transfer_examples import Examples, class_examples, dense_examples
from medtl.study.features.transfer_results import Candidate, Ranked, Transferability, TransferScore
from medtl.study.folder import StudyFolder
from medtl.study.scores import StudyScores, by_patient, read_study_scores
from medtl.study.transferability.agreement import rank_agreement
from medtl.study.transferability.dense import Score, dense_score
from medtl.study.transferability.hscore import regularised_h_score
from medtl.study.transferability.leep import leep, nce
from medtl.study.transferability.logme import logme
from medtl.transfer.strategies.base import SOURCE

#: Names of the scores.
LOGME, H_SCORE, LEEP, NCE = "LogME", "H-score", "LEEP", "NCE"

#: Scores of features and labels.
OF_FEATURES: Mapping[str, Score] = {LOGME: logme, H_SCORE: regularised_h_score}

#: Candidates that a rank needs.
FEWEST_CANDIDATES = 3


def measure_transferability(
    folder: StudyFolder, catalog: Catalog, fabric: Fabric, reporter: Reporter
) -> Transferability:
    """Score the sources of the first fold and seed on training patients of the target.

    On those of the smallest and of the largest budget. What cannot be read is left out, and named
    in a note.

    Raises:
        RunError: no run of an arm has ended, or none starts from a source.
    """
    runs = ended_runs(folder)
    first = [run for run in runs if run.seed == 0]
    starts = _candidates(first)
    if not starts:
        raise RunError(f"{folder.path}: no run of seed 0 that starts from a source has ended")
    cohort = open_cases(folder, runs, catalog, reporter)
    found: list[TransferScore] = []
    notes: list[str] = []
    with reporter.progress("scoring sources", len(starts)) as advance:
        for number, (candidate, run) in enumerate(starts.items(), 1):
            try:
                target = reference_stage(folder, first, candidate.network, catalog, fabric)
                source = read_source(folder, run, target, catalog, fabric)
                budgets = training_patients(folder, first, candidate.network, cohort)
                found += _scored(candidate, source, budgets, cohort, notes)
            except MedtlError as problem:
                notes.append(f"{candidate.name} is left out: {problem}")
                reporter.warn(notes[-1])
            advance(number)
    if not found:
        raise RunError(f"{folder.path}: no source can be scored: {notes[0]}")
    ranked: list[Ranked] = []
    try:
        ranked += _ranked(folder, first, found, notes)
    except MedtlError as problem:  # a run whose scores are damaged
        notes.append(f"not ranked: {problem}")
        reporter.warn(notes[-1])
    unique, synthetic = tuple(dict.fromkeys(notes)), folder.plan.synthetic
    return Transferability(folder.path.name, tuple(found), tuple(ranked), unique, synthetic)


def _candidates(runs: Iterable[PlannedRun]) -> dict[Candidate, PlannedRun]:
    """Each with a run that starts from it."""
    found: dict[Candidate, PlannedRun] = {}
    for run in runs:
        if candidate := _candidate(run):
            found.setdefault(candidate, run)
    return found


def _candidate(run: PlannedRun) -> Candidate | None:
    """What a run starts from; None: random weights."""
    start = SOURCE if run.after else run.settings.get("init")
    return Candidate(run.network, start) if start else None


def training_patients(
    folder: StudyFolder, runs: Sequence[PlannedRun], network: str, cohort: Cohort
) -> dict[str, tuple[str, ...]]:
    """The smallest and the largest budget -> the patients that arms train on.

    Raises:
        RunError: no run with one of these budgets has ended.
    """
    ordered = [budget_name(budget) for budget in in_order(folder.config.budgets)]
    budgeted = {arm.name for arm in folder.plan.arms if arm.budgeted}
    found: dict[str, tuple[str, ...]] = {}
    for budget in dict.fromkeys((ordered[0], ordered[-1])):
        own = (r for r in runs if (r.network, r.budget) == (network, budget) and r.arm in budgeted)
        if run := next(own, None):
            split = read_splits(folder.results(run.name) / SPLITS, cohort.cases)
            found[budget] = (split.budget or split).train
    if not found:
        raise RunError(f"no run of seed 0 with the budget {' or '.join(ordered)} has ended")
    return found


def _scored(
    candidate: Candidate,
    source: Source,
    budgets: Mapping[str, Sequence[str]],
    cohort: Cohort,
    notes: list[str],
) -> Iterator[TransferScore]:
    """Of each budget and output. Budgets are nested: every case is read once."""
    every = {patient for patients in budgets.values() for patient in patients}
    cases = [case for case in target_cases(cohort, source.trained, every) if case.labelled]
    read = dense_examples if source.trained.task_type.dense else class_examples
    examples = read(source, cases)
    for budget, patients in budgets.items():
        for output, own in examples.items():
            place = f"{candidate.name}, budget {budget}, {output}"
            for score, value, count in _scores(own.of(patients), place, notes):
                yield TransferScore(candidate, budget, output, score, value, count)


def _scores(own: Examples, place: str, notes: list[str]) -> Iterator[tuple[str, float, int]]:
    """Each score, its value and the number of patients that it is of."""
    asked: dict[str, tuple[Score, NDArray[Any]]] = {
        name: (score, own.features_NF) for name, score in OF_FEATURES.items()
    }
    if own.source_NZ is not None:
        asked |= {LEEP: (leep, own.source_NZ), NCE: (nce, own.source_NZ.argmax(1))}
    for name, (score, values_N) in asked.items():
        try:
            yield name, *_value(own, score, values_N)
        except DataError as problem:
            notes.append(f"{place}: {problem}")


def _value(own: Examples, score: Score, values_N: NDArray[Any]) -> tuple[float, int]:
    """Of images together, of voxels within each patient; with the number of patients."""
    patients = own.patients_N.tolist()
    if not own.voxels:
        return score(values_N, own.labels_N), len(set(patients))
    mean = dense_score(score, values_N, own.labels_N, patients).mean
    return mean.mean, mean.n


def _ranked(
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    found: Sequence[TransferScore],
    notes: list[str],
) -> Iterator[Ranked]:
    """The agreement of each score with the arms of each strategy."""
    count = len({each.candidate for each in found})
    if count < FEWEST_CANDIDATES:
        notes.append(
            f"{count} candidate(s): a rank needs {FEWEST_CANDIDATES}; name several --networks or "
            "--inits"
        )
        return
    measured = _measured(folder, runs, read_study_scores(folder))
    predicted: dict[tuple[str, str, str], dict[str, float]] = {}
    for each in found:
        key = each.budget, each.output, each.score
        predicted.setdefault(key, {})[each.candidate.name] = each.value
    for (strategy, budget, output), reached in measured.items():
        for (other, region, score), values in predicted.items():
            both = [name for name in values if name in reached]
            if (other, region) != (budget, output) or len(both) < FEWEST_CANDIDATES:
                continue
            sides = ({name: side[name] for name in both} for side in (values, reached))
            try:
                yield Ranked(strategy, budget, output, score, rank_agreement(*sides))
            except DataError as problem:
                notes.append(f"{strategy}, budget {budget}, {output}, {score}: {problem}")


def _measured(
    folder: StudyFolder, runs: Iterable[PlannedRun], scores: StudyScores
) -> dict[tuple[str, str, str], dict[str, float]]:
    """Strategy, budget, output -> candidate -> the mean score over patients."""
    several = len(folder.config.inits) > 1  # an arm each, with a number after its name
    budgeted = {arm.name for arm in folder.plan.arms if arm.budgeted}
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for run in runs:
        candidate = _candidate(run)
        if candidate is None or run.arm not in budgeted:
            continue
        strategy = run.arm.rpartition("-")[0] if several else run.arm
        for output in scores.outputs():
            seeds = scores.runs((run.network, run.arm, run.budget), output)
            if seeds:
                means = patient_means(by_patient(seeds.values()))
                own = found.setdefault((strategy, run.budget, output), {})
                own[candidate.name] = fmean(means.values())
    return found
