"""How well the probabilities of an arm's runs are calibrated on the test patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medtl.runtime.records import STAGE_SCORES, WHOLE_SUMMARY, checked, read_record, read_stages
from medtl.runtime.run_folder import STAGES, SUMMARY
from medtl.study.outcomes.arm_runs import Place

#: The measures that runs of classification keep; see :mod:`medtl.evaluation.calibration`.
MEASURES = ("brier", "ece")

#: The output that stands for all classes.
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Means over the runs of an arm; lower is better."""

    place: Place
    brier: float
    ece: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        network, budget, arm = self.place
        where = {"network": network, "budget": budget, "arm": arm}
        return {**where, "brier": self.brier, "ece": self.ece, "runs": self.runs}


def read_calibration(place: Place, paths: Sequence[Path]) -> Calibration | None:
    """Of the last stages of finished runs. None: they segment, and keep no such measures.

    Raises:
        RunError: a summary is damaged.
    """
    found: list[list[float]] = []
    for path in paths:
        summary = read_record(path / SUMMARY, WHOLE_SUMMARY)
        summary.pop("data", None)
        stages = checked(STAGE_SCORES, summary, path / SUMMARY)
        own = stages.get(read_stages(path / STAGES)[-1], {}).get(_ALL, {})
        means = [own[name].mean for name in MEASURES if name in own]
        known = [mean for mean in means if mean is not None]
        if len(known) == len(MEASURES):
            found.append(known)
    if not found:
        return None
    brier, ece = (fmean(values) for values in zip(*found, strict=True))
    return Calibration(place, brier, ece, len(found))
