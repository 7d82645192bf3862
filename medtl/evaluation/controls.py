"""Difference between a transfer's last stage and each control, within patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL, Interval, Values, paired_difference
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: output -> patient -> the score, or those of the patient's cases
Paired = Mapping[str, Mapping[str, Values]]


HELPED, FASTER, NO_EVIDENCE, HURT = "helped", "faster, perhaps", "no evidence", "hurt"


BETTER_THAN_A, NO_INTERVAL = "better than control A", "no interval"


def against_controls(metric: str, paired: Mapping[str, Paired]) -> dict[str, Any]:
    """The transfer's gain over training from scratch; empty if there is no control A.

    Args:
        metric: what was scored; higher is better.
        paired: by stage, in the order of training.

    Returns:
        ``{"metric", "stage", "outputs": {output: {"verdict", "control-a": interval, ...}}}``, the
        stage being the transfer's last. A control that was not scored on the same patients and
        outputs is left out.
    """
    transfer = [name for name in paired if name not in (CONTROL_A, CONTROL_B)]
    if not transfer:
        return {}
    stage = transfer[-1]
    controls = [
        name
        for name in (CONTROL_A, CONTROL_B)
        if name in paired and _alike(paired[stage], paired[name])
    ]
    if CONTROL_A not in controls:
        return {}
    outputs = {}
    for output, scores in paired[stage].items():
        found = [paired_difference(scores, paired[name][output]) for name in controls]
        intervals = {name: each.to_json() for name, each in zip(controls, found, strict=True)}
        outputs[output] = {"verdict": verdict(found), **intervals}
    return {"metric": metric, "stage": stage, "outputs": outputs}


def verdict(differences: Sequence[Interval]) -> str:
    """The conclusion from the differences to control A and, if there is one, to control B."""
    sides = [_side(difference) for difference in differences]
    if None in sides:
        return NO_INTERVAL
    if sides[0] == 1:
        if len(sides) == 1:
            return BETTER_THAN_A
        return HELPED if sides[1] == 1 else FASTER
    return HURT if -1 in sides else NO_EVIDENCE


def _alike(one: Paired, other: Paired) -> bool:
    """Whether both have the same outputs, each of the same patients."""
    return one.keys() == other.keys() and all(one[key].keys() == other[key].keys() for key in one)


def _side(difference: Interval) -> int | None:
    """On which side of 0 the interval lies; 0: on both, or no patient differs. None: there is no
    interval."""
    if difference.low is None or difference.high is None:
        same = difference.n >= FEWEST_FOR_INTERVAL and difference.mean == 0
        return 0 if same else None
    return (difference.low > 0) - (difference.high < 0)
