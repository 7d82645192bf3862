"""What the runs of an arm cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from medtl.study.folder import State, StudyFolder
from medtl.study.outcomes.arm_runs import Place, arm_runs
from medtl.study.trials.records import read_tuning_plan


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all runs of an arm, trials included. ``gpus``: the kinds that they computed on."""

    place: Place
    runs: int
    cpu_seconds: float
    gpu_seconds: float = 0.0
    gpus: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        network, budget, arm = self.place
        return {
            **{"network": network, "budget": budget, "arm": arm, "runs": self.runs},
            **{"cpu_hours": self.cpu_seconds / 3600, "gpu_hours": self.gpu_seconds / 3600},
            "gpus": list(self.gpus),
        }


def find_costs(folder: StudyFolder) -> tuple[Cost, ...]:
    """Of every arm with runs that were begun; what a run cost is counted in its own arm alone."""
    every = folder.runs()
    states = {run.name: state for run in every if (state := folder.state(run.name))}
    begun = arm_runs(folder, [run for run in every if run.name in states])
    found = {place: [states[run.name] for run in those] for place, those in begun.items()}
    for place, state in _trials(folder):
        found.setdefault(place, []).append(state)
    return tuple(find_cost(place, those) for place, those in found.items())


def _trials(folder: StudyFolder) -> Iterator[tuple[Place, State]]:
    """The trials that were carried out in this study, at the places of their tuned arms."""
    plan = read_tuning_plan(folder.path)
    for search in plan.searches if plan else ():
        for name in search.trial_names():
            if state := folder.state(name):
                yield (search.network, search.budget, search.arm), state


def find_cost(place: Place, states: Sequence[State]) -> Cost:
    """Processor time of every run, and the time that runs on a GPU held it."""
    on_gpu = [state for state in states if state.gpu]
    return Cost(
        place,
        len(states),
        sum(state.cpu_seconds for state in states),
        sum(state.seconds for state in on_gpu),
        tuple(dict.fromkeys(state.gpu for state in on_gpu)),
    )


def total(costs: Sequence[Cost]) -> Cost:
    """Of the whole study."""
    return Cost(
        ("", "", "total"),
        sum(cost.runs for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        sum(cost.gpu_seconds for cost in costs),
        tuple(dict.fromkeys(gpu for cost in costs for gpu in cost.gpus)),
    )
