"""How soon the runs of an arm reach a validation score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medtl.study.outcomes.arm_runs import Place
from medtl.study.outcomes.curves import Curve
from medtl.study.outcomes.median_time import median_time


@dataclass(frozen=True, slots=True)
class Speed:
    """Of an arm on the target.

    ``steps``: the median over runs (Kaplan and Meier); None: half of them have not reached the
    target within ``longest`` steps. ``seconds``: the same; also None where runs did not keep times.
    ``target``: None where control A has no validation score.
    """

    place: Place
    target: float | None
    runs: int
    reached: int
    steps: float | None
    longest: int
    source_steps: int | None  #: before those on the target; None: unknown, of weights from outside
    seconds: float | None = None
    longest_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **{**self._where(), "target": self.target},
            **{"source_steps": self.source_steps, "steps": self.steps, "longest": self.longest},
            **{"runs": self.runs, "reached": self.reached},
        }

    def time_json(self) -> dict[str, Any]:
        times = {"seconds": self.seconds, "longest_seconds": self.longest_seconds}
        return {**self._where(), **times}

    def _where(self) -> dict[str, str]:
        network, budget, arm = self.place
        return {"network": network, "budget": budget, "arm": arm}


def target_scores(
    curves: Mapping[Place, Sequence[Curve]], control: str, target: float | None = None
) -> dict[tuple[str, str], float]:
    """By network and budget: ``target``, or else what the control's last validation found.

    That is a mean over its runs. Budgets without validation patients are left out.
    """
    found = {}
    for (network, budget, arm), own in curves.items():
        ends = [curve.points[-1].score for curve in own if curve.points]
        if arm == control and ends:
            found[network, budget] = fmean(ends) if target is None else target
    return found


def find_speed(
    place: Place, curves: Sequence[Curve], target: float | None, source_steps: int | None
) -> Speed:
    """Of the runs of an arm that were validated."""
    validated = [curve for curve in curves if curve.points]
    longest = max((curve.steps for curve in curves), default=0)
    if target is None or not validated:
        return Speed(place, target, 0, 0, None, longest, source_steps)
    firsts = [curve.first(target) for curve in validated]
    reached = [first is not None for first in firsts]
    pairs = list(zip(firsts, validated, strict=True))
    steps = [first.step if first else curve.steps for first, curve in pairs]
    ends = [(first or curve.points[-1]).seconds for first, curve in pairs]
    seconds = [end for end in ends if end is not None]
    timed = len(seconds) == len(ends)
    return Speed(
        place,
        target,
        len(validated),
        sum(reached),
        median_time(steps, reached),
        longest,
        source_steps,
        median_time(seconds, reached) if timed else None,
        max(seconds) if timed else None,
    )
