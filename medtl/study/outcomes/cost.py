"""What the runs of an arm cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medtl.study.folder import State
from medtl.study.outcomes.arm_runs import Place


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all runs of an arm together. ``gpus``: the kinds that they computed on, if any."""

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
