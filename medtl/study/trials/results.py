"""What the trials of a study chose, and what that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medtl.evaluation.comparison.effects import Effect, paired_effect
from medtl.evaluation.tables import LABELS, gain_cell, output_word, titled
from medtl.runtime.table import Table
from medtl.study.folder import StudyFolder
from medtl.study.results import common_runs
from medtl.study.scores import StudyScores
from medtl.study.trials.records import Choice, Search, read_choice, read_tuning_plan

#: Searched settings, and their columns.
SEARCHED = {"lr": "lr", "weight_decay": "weight decay", "depth": "depth"}


@dataclass(frozen=True, slots=True)
class Tuned:
    """A search that has ended."""

    search: Search
    choice: Choice

    @property
    def trials(self) -> int:
        return len(self.choice.scores)

    def to_json(self) -> dict[str, Any]:
        scores, own = self.choice.scores, self.search
        return {
            **{name: getattr(own, name) for name in ("network", "arm", "budget", "fold", "seed")},
            "trials": self.trials,
            "chosen": self.choice.chosen,
            "settings": dict(self.choice.settings),
            "score": scores[self.choice.chosen],
            "score_untuned": scores[0],
            "scores": list(scores),
        }


@dataclass(frozen=True, slots=True)
class Gain:
    """A tuned arm less its untuned one, on test patients."""

    network: str
    budget: str
    arm: str
    untuned: str
    output: str
    effect: Effect

    def to_json(self) -> dict[str, Any]:
        names = ("network", "budget", "arm", "untuned", "output")
        return {**{name: getattr(self, name) for name in names}, **self.effect.to_json()}


@dataclass(frozen=True, slots=True)
class TunedFindings:
    """Every search, and the gain of every tuned arm."""

    tuned: tuple[Tuned, ...]
    gains: tuple[Gain, ...]

    def tables(self, metric: str, *, synthetic: bool) -> list[Table]:
        """The choices, then the differences to the untuned arms."""
        return [
            *([_choices_table(self.tuned, metric, synthetic)] if self.tuned else []),
            *([_gains_table(self.gains, metric, synthetic)] if self.gains else []),
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "searches": [each.to_json() for each in self.tuned],
            "gains": [each.to_json() for each in self.gains],
        }


def read_tuned(folder: StudyFolder, scores: StudyScores) -> TunedFindings | None:
    """None: no arm of the study is tuned."""
    plan = read_tuning_plan(folder.path)
    if plan is None:
        return None
    tuned = [
        Tuned(search, choice)
        for search in plan.searches
        if (choice := read_choice(folder.path, search.name)) is not None
    ]
    origin = {arm.name: arm.tuned_from for arm in folder.plan.arms if arm.tuned_from}
    return TunedFindings(tuple(tuned), tuple(_gains(scores, origin)))


def _gains(scores: StudyScores, origin: Mapping[str, str]) -> Iterator[Gain]:
    for output in scores.outputs():
        for network, arm, budget in scores.in_order():
            if arm not in origin:
                continue
            own = scores.runs((network, arm, budget), output)
            other = scores.runs((network, origin[arm], budget), output)
            if pair := common_runs(own, other):
                yield Gain(network, budget, arm, origin[arm], output, paired_effect(*pair))


def _choices_table(tuned: tuple[Tuned, ...], metric: str, synthetic: bool) -> Table:
    networks = len({each.search.network for each in tuned}) > 1
    rows = []
    for each in tuned:
        own, choice = each.search, each.choice
        untuned, best = choice.scores[0], choice.scores[choice.chosen]
        rows.append(
            (
                *((own.network,) if networks else ()),
                own.arm,
                own.budget,
                str(own.fold),
                "all" if own.budget == "all" else str(own.seed),
                str(each.trials),
                *(_setting(choice, name) for name in SEARCHED),
                "none" if best is None else f"{best:.3f}",
                "none" if untuned is None else f"{untuned:.3f}",
            )
        )
    head = ("network",) if networks else ()
    measure = LABELS[metric]
    columns = (
        *head,
        "arm",
        "budget",
        "fold",
        "seed",
        "trials",
        *SEARCHED.values(),
        f"validation {measure}",
        "untuned",
    )
    notes = (
        "own: as the untuned arm has it. The validation scores chose the trial, so the best of "
        "them is too high; what tuning gained is told by test patients alone.",
    )
    return Table(titled("Tuning", synthetic), columns, tuple(rows), notes)


def _setting(choice: Choice, name: str) -> str:
    return f"{choice.settings[name]:g}" if name in choice.settings else "own"


def _gains_table(gains: tuple[Gain, ...], metric: str, synthetic: bool) -> Table:
    networks = len({each.network for each in gains}) > 1
    rows = tuple(
        (
            *((each.network,) if networks else ()),
            each.output,
            each.budget,
            each.arm,
            each.untuned,
            str(each.effect.n),
            gain_cell(each.effect.to_json()),
        )
        for each in gains
    )
    head = ("network",) if networks else ()
    columns = (*head, output_word(metric), "budget", "arm", "vs", "n", "difference")
    title = f"What tuning changed: difference in {LABELS[metric]} to the untuned arm"
    notes = ("Mean difference within test patients [95% interval], over patients and runs.",)
    return Table(titled(title, synthetic), columns, rows, notes)
