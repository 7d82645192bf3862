"""Everything that a study tells beside scores: steps, calibration, what is left of the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.study.arms import PlannedRun
from medtl.study.config import StudyConfig
from medtl.study.folder import PlanRecord, StudyFolder
from medtl.study.outcomes.arm_runs import Place, arm_runs
from medtl.study.outcomes.calibration import Calibration, read_calibration
from medtl.study.outcomes.curves import Curve, read_curve
from medtl.study.outcomes.efficiency import Efficiency, find_efficiency
from medtl.study.outcomes.retention import Retention, find_retention
from medtl.study.outcomes.source_after import SourceScorer
from medtl.study.outcomes.speed import Speed, find_speed, target_scores
from medtl.study.scores import StudyScores, read_run_scores
from medtl.transfer.strategies.base import CONTROL_A, SOURCE

Runs = Mapping[Place, Sequence[PlannedRun]]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the tables "What it took" and "What is left of the source" show."""

    metric: str
    target: float | None  #: as the study says; None: control A's
    speeds: tuple[Speed, ...]
    calibrations: tuple[Calibration, ...]
    efficiencies: tuple[Efficiency, ...]
    retained: tuple[Retention, ...]
    mapped: bool  #: whether a first layer was adapted to the source's modalities
    not_scored: Mapping[str, str]  #: arm -> why nothing is known of the source after it

    def to_json(self) -> dict[str, Any]:
        """``time`` differs between studies that are otherwise the same."""
        to_target = [each.time_json() for each in self.speeds if each.runs]
        return {
            "target": self.target,
            "steps": [each.to_json() for each in self.speeds],
            "calibration": [each.to_json() for each in self.calibrations],
            "label_efficiency": [each.to_json() for each in self.efficiencies],
            "source_after": [each.to_json() for each in self.retained],
            "source_not_scored": dict(self.not_scored),
            "time": {"to_target": to_target},
        }


def find_outcomes(
    folder: StudyFolder, scores: StudyScores, catalog: Catalog, reporter: Reporter
) -> Outcomes:
    """Of the runs that ended; networks are scored on the source where that was not done yet.

    Raises:
        RunError: what a run has written is damaged.
    """
    plan, config, every = folder.plan, folder.config, folder.runs()
    runs = arm_runs(folder, [run for run in every if folder.is_done(run.name)])
    own = {place: those for place, those in runs.items() if place[2] != SOURCE}
    retained, mapped, not_scored = _retained(folder, own, catalog, reporter)
    calibrations = (
        read_calibration(place, [folder.results(run.name) for run in those])
        for place, those in own.items()
        if plan.metric != "dice"
    )
    return Outcomes(
        plan.metric,
        config.target,
        tuple(_speeds(folder, plan, config, own)),
        tuple(each for each in calibrations if each),
        tuple(find_efficiency(config, scores, plan.arms)),
        tuple(retained),
        mapped,
        not_scored,
    )


def _speeds(
    folder: StudyFolder, plan: PlanRecord, config: StudyConfig, runs: Runs
) -> Iterator[Speed]:
    """Where validation does not look at the target, its scores are none to compare."""
    looks = {arm.name for arm in plan.arms if arm.validated}
    said = {arm.name: arm.on_source for arm in plan.arms}
    sources = {run.after for those in runs.values() for run in those if run.after}
    before = {name: read_curve(folder.results(name)).steps for name in sorted(sources)}
    curves: dict[Place, list[Curve]] = {
        place: [read_curve(folder.results(run.name)) for run in those]
        for place, those in runs.items()
    }
    targets = target_scores(curves, CONTROL_A, config.target)
    for place, own in curves.items():
        network, budget, arm = place
        target = targets.get((network, budget)) if arm in looks else None
        spent = max(
            before.get(run.after, 0) + curve.source_steps
            for run, curve in zip(runs[place], own, strict=True)
        )
        outside = any(run.settings.get("init") for run in runs[place])
        yield find_speed(place, own, target, said[arm] if outside else spent)


def _retained(
    folder: StudyFolder, runs: Runs, catalog: Catalog, reporter: Reporter
) -> tuple[list[Retention], bool, dict[str, str]]:
    """Of arms that start from the source's run; whether first layers were adapted; what failed."""
    metric, scorer = folder.plan.metric, SourceScorer(folder, catalog)
    after = {place: [run for run in those if run.after] for place, those in runs.items()}
    sources = dict.fromkeys(run.after for those in after.values() for run in those)
    before = {name: read_run_scores(folder.results(name), metric) for name in sources}
    found: list[Retention] = []
    not_scored: dict[str, str] = {}
    mapped, done = False, 0
    with reporter.progress("scoring the source again", sum(map(len, after.values()))) as advance:
        for place, those in after.items():
            own = {}
            for run in those:
                kept, done = scorer(run), done + 1
                advance(done)
                mapped = mapped or kept.mapped
                if kept.reason:
                    not_scored[run.arm] = kept.reason
                else:
                    own[run.fold, run.seed] = kept.scores
            starts = {(run.fold, run.seed): before[run.after] for run in those}
            found += find_retention(place, starts, own)
    return found, mapped, not_scored
