"""Finished runs, read and put into arms and folds; refuses those that cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medtl.config import TrainConfig, option_of, read_config
from medtl.data.splits import read_run_fold, read_splits
from medtl.errors import ConfigError, RunError, shortened
from medtl.evaluation.comparison.effects import RunKey, Runs
from medtl.evaluation.scores import Scores, read_scores
from medtl.evaluation.several.alike import arm_settings, check_once, check_task, differing, folds_of
from medtl.runtime.files import from_home
from medtl.runtime.records import Inputs, read_record, read_stages
from medtl.runtime.run_folder import CONFIG, INPUTS, SPLITS, STAGES, SUMMARY, open_run
from medtl.study.scores import RunScores, by_patient, read_run_scores


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """``tested``: the patients on whom its last stage was scored. ``outputs``: its regions or
    classes."""

    path: Path
    config: TrainConfig
    stage: str
    metric: str
    outputs: frozenset[str]
    scores: RunScores
    summary: Scores

    @property
    def tested(self) -> frozenset[str]:
        return frozenset(patient for found in self.scores.scores.values() for patient in found)


@dataclass(frozen=True, slots=True)
class FinishedArm:
    """Runs that differ in seed or fold alone; ``label`` says how they differ from other arms."""

    label: str
    runs: Mapping[RunKey, FinishedRun]

    def folds(self) -> set[int]:
        return {fold for fold, _ in self.runs}

    def outputs(self) -> list[str]:
        """Regions, or ``all`` of classes."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run.scores.scores))

    def scored(self, output: str) -> Runs:
        """run -> patient -> score."""
        every = {key: run.scores.scores.get(output) for key, run in self.runs.items()}
        return {key: values for key, values in every.items() if values}

    def by_patient(self, output: str) -> dict[str, list[float]]:
        """The scores of each patient's runs."""
        return by_patient(self.scored(output).values())

    def found(self, output: str) -> float | None:
        """The mean over cases that have the region; None: there is none, or nothing to find."""
        every = [run.scores.found.get(output) or {} for run in self.runs.values()]
        means = [fmean(values) for values in by_patient(every).values()]
        return fmean(means) if means else None


def read_arms(paths: Sequence[Path]) -> tuple[FinishedArm, ...]:
    """The arms of finished runs, in the order of the runs.

    Raises:
        ConfigError: a run is named twice, or there are no two arms of one task.
        RunError: a run is not finished or damaged, test sets overlap in part, or a patient was
            tested by one run and trained on by another of its fold.
    """
    check_once(paths)
    runs = [_read(path) for path in paths]
    _check_alike(runs)
    folds = folds_of({run.path: run.tested for run in runs})
    _check_folds(runs, folds)
    return _arms(runs, folds)


def _read(path: Path) -> FinishedRun:
    run = open_run(from_home(path))
    if not run.has(SUMMARY):
        raise RunError(
            f"{path} is not finished: it has no scores yet; go on with it by medtl train --resume "
            f"{path}"
        )
    summary, stage = read_scores(run), read_stages(run.path / STAGES)[-1]
    found = summary.summary.get(stage, {})
    together = {name for name, metrics in found.items() if "accuracy" in metrics}
    metric = "accuracy" if together else "dice"
    return FinishedRun(
        run.path,
        read_config(run.path / CONFIG),
        stage,
        metric,
        frozenset(found) - together,
        read_run_scores(run.path, metric),
        summary,
    )


def _check_alike(runs: Sequence[FinishedRun]) -> None:
    """Raises ConfigError for runs of different tasks, and of different regions or classes."""
    check_task({run.path: run.config for run in runs})
    first, *others = runs
    for run in others:
        if odd := sorted(first.outputs ^ run.outputs):
            raise ConfigError(
                f"only one of {first.path} and {run.path} was scored on {shortened(odd)}; name "
                "runs of the same regions or classes"
            )


def _check_folds(runs: Sequence[FinishedRun], folds: Mapping[Path, int]) -> None:
    """Raises RunError for runs of a fold whose test cases differ, or are trained on by another."""
    for fold in set(folds.values()):
        first, *others = (run for run in runs if folds[run.path] == fold)
        for run in (first, *others):
            _check_not_trained_on(run, first)
        for run in others:
            _check_same_cases(first, run)


def _check_not_trained_on(run: FinishedRun, first: FinishedRun) -> None:
    """``first``: a run of the same test patients."""
    split = read_splits(run.path / SPLITS)
    if seen := sorted(first.tested & {*split.train, *split.val}):
        raise RunError(
            f"{run.path} was trained or validated on {shortened(seen)}, whom {first.path} tests; "
            "name runs of one split"
        )


def _check_same_cases(one: FinishedRun, other: FinishedRun) -> None:
    """Raises RunError where a test case is not the same; older runs do not say what it was."""
    if not all((run.path / INPUTS).is_file() for run in (one, other)):
        return
    known, found = (read_record(run.path / INPUTS, Inputs).cases for run in (one, other))
    for case in read_run_fold(one.path / SPLITS).test or ():
        if case in known and case in found:
            a, b = known[case], found[case]
            if (a.label, a.class_name) != (b.label, b.class_name):
                raise RunError(
                    f"test case {case} has another label in {one.path} than in {other.path}; name "
                    "runs on the same data"
                )


def _arms(runs: Sequence[FinishedRun], folds: Mapping[Path, int]) -> tuple[FinishedArm, ...]:
    groups: list[tuple[dict[str, Any], list[FinishedRun]]] = []
    for run in runs:
        settings = arm_settings(run.config)
        own = next((members for known, members in groups if known == settings), None)
        if own is None:
            groups.append((settings, [run]))
        else:
            own.append(run)
    if len(groups) < 2:
        raise ConfigError(
            "these runs differ in seed or fold alone, so there is nothing to compare; medtl "
            "evaluate takes their mean"
        )
    first = groups[0][0]
    changed = [differing(first, settings) for settings, _ in groups]
    every = [name for name in first if any(name in names for names in changed)]
    arms: list[FinishedArm] = []
    for names, (_, members) in zip(changed, groups, strict=True):
        label = _label(members[0].config, names or every)
        taken = [arm.label for arm in arms]
        if label in taken:  # weights of one name in two folders
            label = f"{label} ({len(arms) + 1})"
        arms.append(FinishedArm(label, _by_key(members, folds)))
    return tuple(arms)


def _label(config: TrainConfig, names: Sequence[str]) -> str:
    return ", ".join(f"{name}={_text(config, name)}" for name in names)


def _text(config: TrainConfig, name: str) -> str:
    """The value of a setting; None is what was not given."""
    value = getattr(config, name)
    if value is None:
        unset = option_of(TrainConfig.model_fields[name])["unset"]
        return unset if unset == "none" else "default"
    if name == "init":
        return Path(value).name
    if isinstance(value, dict):
        return "+".join(f"{key}:{each}" for key, each in value.items()) or "none"
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _by_key(runs: Sequence[FinishedRun], folds: Mapping[Path, int]) -> dict[RunKey, FinishedRun]:
    """Raises ConfigError for two runs of one fold and seed."""
    found: dict[RunKey, FinishedRun] = {}
    for run in runs:
        key = folds[run.path], run.config.seed
        if key in found:
            raise ConfigError(
                f"{found[key].path} and {run.path} have the same settings, seed and test patients; "
                "name one of them"
            )
        found[key] = run
    return dict(sorted(found.items()))
