"""Difference between a transfer's last stage and each control, within patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from medtl.evaluation.comparison.verdicts import TOO_POOR, verdict
from medtl.evaluation.intervals import Values, paired_difference, patient_means
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: output -> patient -> the score, or those of the patient's cases
Paired = Mapping[str, Mapping[str, Values]]


#: Networks are compared if one of them reaches this mean score where there is something to find.
#: Below it, differences are those between networks that found nothing.
FLOOR = 0.1


#: Metrics that are shares of hits.
_SHARES = ("accuracy",)


def against_controls(
    metric: str, paired: Mapping[str, Paired], found: Mapping[str, Paired] | None = None
) -> dict[str, Any]:
    """The transfer's gain over training from scratch; empty if there is no control A.

    Args:
        metric: what was scored; higher is better.
        paired: by stage, in the order of training.
        found: the same of the cases that have something to find (the region), if that is asked:
            outputs of which no network reaches :data:`FLOOR` are too poor to compare.

    Returns:
        ``{"metric", "stage", "outputs": {output: {"verdict", "control-a": interval, ...}}}``, the
        stage being the transfer's last, and "floor" with ``found``. A control that was not scored
        on the same patients and outputs is left out.
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
        differences = [
            paired_difference(scores, paired[name][output], share=metric in _SHARES)
            for name in controls
        ]
        intervals = {name: each.to_json() for name, each in zip(controls, differences, strict=True)}
        poor = found is not None and _poor(output, [found[name] for name in (stage, *controls)])
        outputs[output] = {"verdict": TOO_POOR if poor else verdict(differences), **intervals}
    floor = {"floor": FLOOR} if found is not None else {}
    return {"metric": metric, "stage": stage, **floor, "outputs": outputs}


def _poor(output: str, found: Sequence[Paired]) -> bool:
    """Whether no network reaches the floor; False where there is nothing to find."""
    return below_floor(
        [fmean(patient_means(own[output]).values()) for own in found if own.get(output)]
    )


def below_floor(means: Sequence[float]) -> bool:
    """Whether no network reaches the floor; False where there is nothing to find, and no mean."""
    return bool(means) and max(means) < FLOOR


def _alike(one: Paired, other: Paired) -> bool:
    """Whether both have the same outputs, each of the same patients."""
    return one.keys() == other.keys() and all(one[key].keys() == other[key].keys() for key in one)
