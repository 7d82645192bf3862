"""What is planned and kept of trials in the folder of a study.

tuning/plan.json tuning/<search>.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from medtl.errors import RunError
from medtl.runtime.records import Count, FolderName, Number, Record, read_record
from medtl.study.arms import PlannedRun
from medtl.study.config import MOST_TRIALS

#: Settings that a trial has over those of the untuned run.
Settings = dict[str, int | float]


class Search(Record):
    """The trials of one arm in one network, budget, fold and seed."""

    name: FolderName
    run: FolderName  #: the untuned run with the same patients
    arm: str
    network: str
    budget: str
    fold: Count
    seed: Count
    key: str  #: of all that its scores depend on; two studies that share it share their trials
    trials: Annotated[tuple[Settings, ...], Field(min_length=2, max_length=MOST_TRIALS)]

    def trial_names(self) -> list[str]:
        """Of the runs of its trials."""
        return [f"{self.name}-t{number:03d}" for number in range(len(self.trials))]

    def runs(self, untuned: PlannedRun) -> Iterator[PlannedRun]:
        """The run of each trial."""
        names = self.trial_names()
        for number, settings in enumerate(self.trials):
            yield replace(
                untuned,
                name=names[number],
                settings={**untuned.settings, **settings},
                tuned=self.name,
                trial=number,
            )


class TuningPlan(Record):
    """``tuning/plan.json``."""

    searches: tuple[Search, ...]


class Choice(Record):
    """``tuning/<search>.json``: the validation score of each trial, and the best one.

    A trial whose loss was not finite has no score.
    """

    scores: tuple[Number | None, ...]
    chosen: Count
    settings: Settings  #: of the chosen trial, over those of the untuned run

    @property
    def is_untuned(self) -> bool:
        return self.chosen == 0


def tuning_plan_path(study: Path) -> Path:
    return study / "tuning" / "plan.json"


def read_tuning_plan(study: Path) -> TuningPlan | None:
    """None: no arm of the study is tuned."""
    path = tuning_plan_path(study)
    return read_record(path, TuningPlan) if path.is_file() else None


def choice_name(search: str) -> Path:
    """Of its file, within the study."""
    return Path("tuning") / f"{search}.json"


def read_choice(study: Path, search: str) -> Choice | None:
    """None: its trials have not all ended."""
    path = study / choice_name(search)
    return read_record(path, Choice) if path.is_file() else None


def chosen_settings(study: Path, search: str) -> Mapping[str, Any]:
    """Raises RunError where the trials have not all ended."""
    choice = read_choice(study, search)
    if choice is None:
        raise RunError(f"{study / choice_name(search)} is not there; let medtl compare go on")
    return choice.settings


def choose(search: Search, scores: tuple[float | None, ...]) -> Choice | None:
    """The trial with the highest score, of equal ones the first; None where none has a score.

    Raises:
        ValueError: there is not a score for each trial.
    """
    if len(scores) != len(search.trials):
        raise ValueError(f"{len(scores)} scores of {len(search.trials)} trials")
    known = [(score, -number) for number, score in enumerate(scores) if score is not None]
    if not known:
        return None
    chosen = -max(known)[1]
    return Choice(scores=scores, chosen=chosen, settings=search.trials[chosen])
