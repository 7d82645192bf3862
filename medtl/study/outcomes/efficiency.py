"""The smallest budget at which a strategy reaches what control A has with the largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medtl.evaluation.comparison.effects import Effect, paired_effect
from medtl.evaluation.controls import below_floor
from medtl.study.config import StudyConfig, budget_name, in_order
from medtl.study.folder import ArmRecord
from medtl.study.results import common_runs
from medtl.study.scores import StudyScores, by_patient
from medtl.transfer.strategies.base import CONTROL_A


@dataclass(frozen=True, slots=True)
class Efficiency:
    """``effect``: the strategy at ``budget`` less control A at ``largest``, within patients.

    ``budget``: the smallest that reaches it; None: none does, and ``effect`` is of the largest.
    """

    network: str
    arm: str
    output: str
    budget: str | None
    largest: str
    effect: Effect
    margin: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            **{"network": self.network, "arm": self.arm, "output": self.output},
            **{"budget": self.budget, "largest": self.largest, "margin": self.margin},
            "difference": self.effect.to_json(),
        }


def find_efficiency(
    config: StudyConfig, scores: StudyScores, arms: Sequence[ArmRecord]
) -> Iterator[Efficiency]:
    """Of every strategy that sees target labels, by output; nothing in a study of one budget.

    With a margin, the interval of the difference must lie above ``-margin``; without one, the mean
    must not lie below 0.
    """
    budgets = [budget_name(budget) for budget in in_order(config.budgets)]
    chosen = [arm.name for arm in arms if arm.budgeted and not arm.role]
    if len(budgets) < 2:
        return
    for output in scores.outputs():
        for network in scores.networks():
            aim = (network, CONTROL_A, budgets[-1])
            best = scores.runs(aim, output)
            there = by_patient(scores.runs(aim, output, found=True).values())
            if there and below_floor([fmean(map(fmean, there.values()))]):
                continue  # nothing was found that could be reached
            for arm in chosen:
                effects = {}
                for budget in budgets:
                    own = scores.runs((network, arm, budget), output)
                    if pair := common_runs(own, best):
                        effects[budget] = paired_effect(*pair)
                if not effects:
                    continue
                first = next((b for b in effects if _reaches(effects[b], config.margin)), None)
                shown = effects[first or list(effects)[-1]]
                yield Efficiency(network, arm, output, first, budgets[-1], shown, config.margin)


def _reaches(effect: Effect, margin: float | None) -> bool:
    if margin is None:
        return effect.mean >= 0
    return effect.low is not None and effect.low >= -margin
