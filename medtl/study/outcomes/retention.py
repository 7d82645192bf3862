"""What is left of the source's score after a transfer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medtl.evaluation.comparison.effects import Effect, Runs, paired_effect
from medtl.study.outcomes.arm_runs import Place
from medtl.study.results import common_runs
from medtl.study.scores import RunScores, by_patient


@dataclass(frozen=True, slots=True)
class Retention:
    """Of an arm in one output: the source's own mean score, and what the transfer changed.

    ``effect``: after less before, on the same test patients of the source; runs are paired by fold
    and seed.
    """

    place: Place
    output: str
    before: float
    after: float
    effect: Effect

    def to_json(self) -> dict[str, Any]:
        network, budget, arm = self.place
        return {
            **{"network": network, "budget": budget, "arm": arm, "output": self.output},
            **{"before": self.before, "after": self.after, "difference": self.effect.to_json()},
        }


def find_retention(
    place: Place,
    before: Mapping[tuple[int, int], RunScores],
    after: Mapping[tuple[int, int], Mapping[str, Mapping[str, float]]],
) -> Iterator[Retention]:
    """In every output; ``before`` and ``after`` by fold and seed.

    ``after``: run -> output -> patient -> score.
    """
    outputs = dict.fromkeys(output for scores in after.values() for output in scores)
    for output in outputs:
        own: Runs = {key: scores[output] for key, scores in after.items() if output in scores}
        other: Runs = {
            key: run.scores[output] for key, run in before.items() if output in run.scores
        }
        if pair := common_runs(own, other):
            means = [fmean(map(fmean, by_patient(side.values()).values())) for side in pair]
            yield Retention(place, output, means[1], means[0], paired_effect(*pair))
