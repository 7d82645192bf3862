"""What a study found: scores of the arms, differences to the controls, verdicts, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from medtl.evaluation.comparison.effects import Effect, RunKey, Runs, paired_effect
from medtl.evaluation.comparison.patients_needed import patients_for_difference
from medtl.evaluation.comparison.ranks import Rank, rank_arms
from medtl.evaluation.comparison.verdicts import (
    NO_EVIDENCE,
    TOO_POOR,
    Judged,
    family_verdicts,
)
from medtl.evaluation.controls import below_floor
from medtl.evaluation.intervals import Interval, interval
from medtl.study.config import Primary, StudyConfig
from medtl.study.folder import ArmRecord
from medtl.study.scores import StudyScores, by_patient
from medtl.transfer.strategies.base import CONTROL_A

#: A network, a budget, an arm and an output (a region, or ``all`` classes).
Key = tuple[str, str, str, str]

PLACE = ("network", "budget", "arm", "output")


@dataclass(frozen=True, slots=True)
class ArmScore:
    """The mean score of an arm over patients, whose runs are averaged first."""

    network: str
    budget: str
    arm: str
    output: str
    score: Interval
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {**place_of(self), "runs": self.runs, **self.score.to_json()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against its controls."""

    network: str
    budget: str
    arm: str
    output: str
    against: Mapping[str, Effect]
    judged: Judged
    primary: bool
    #: test patients that find ``sought`` against control A; None: not asked, or no number does
    needed: int | None
    sought: float | None = None  #: the margin, or without one the difference that was seen

    def to_json(self) -> dict[str, Any]:
        return {
            **place_of(self),
            "verdict": self.judged.verdict,
            "p": self.judged.p,
            "p_holm": self.judged.p_holm,
            "primary": self.primary,
            "patients_needed": self.needed,
            "difference_sought": self.sought,
            "against": {name: effect.to_json() for name, effect in self.against.items()},
        }


def place_of(each: ArmScore | Comparison) -> dict[str, str]:
    """Network, budget, arm and output, as plain data."""
    return {name: getattr(each, name) for name in PLACE}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the tables and figures of a study show."""

    metric: str
    arms: tuple[ArmScore, ...]
    comparisons: tuple[Comparison, ...]
    ranks: Mapping[Key, Rank] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        ranks = [
            {**dict(zip(PLACE, key, strict=True)), **rank.to_json()}
            for key, rank in self.ranks.items()
        ]
        return {
            "metric": self.metric,
            "arms": [each.to_json() for each in self.arms],
            "comparisons": [each.to_json() for each in self.comparisons],
            "ranks": ranks,
        }


def find(config: StudyConfig, scores: StudyScores, arms: Sequence[ArmRecord]) -> Findings:
    """Compare every arm with the controls of its network and budget.

    Where an arm has a rate of its own, control A was trained at both: the arm has helped, or hurt,
    if it is better, or worse, than both.

    Verdicts of one output form a family: budgets, strategies and networks are adjusted for by
    Holm. The primary comparison is judged alone.
    """
    comparisons: list[Comparison] = []
    for output in scores.outputs():
        comparisons += _compared(config, scores, arms, output)
    return Findings(
        scores.metric,
        tuple(_arm_scores(scores)),
        tuple(comparisons),
        _ranks(scores),
    )


def _arm_scores(scores: StudyScores) -> list[ArmScore]:
    found = []
    for output in scores.outputs():
        for network, arm, budget in scores.in_order():
            runs = scores.runs((network, arm, budget), output)
            if runs:
                mean = interval(by_patient(runs.values()))
                found.append(ArmScore(network, budget, arm, output, mean, len(runs)))
    return found


def _compared(
    config: StudyConfig, scores: StudyScores, arms: Sequence[ArmRecord], output: str
) -> list[Comparison]:
    effects: dict[tuple[str, str, str], dict[str, Effect]] = {}
    records = {arm.name: arm for arm in arms}
    for network, arm, budget in scores.in_order():
        own = scores.runs((network, arm, budget), output)
        if records[arm].role or not own:
            continue
        against: dict[str, Effect] = {}
        controls = _controls_of(records[arm], arms)
        for control in controls:
            other = scores.runs((network, control, budget), output)
            if pair := common_runs(own, other):
                against[control] = paired_effect(*pair)
        if controls[0] in against:
            effects[network, budget, arm] = against
    chosen = next((key for key in effects if _is_primary(config.primary, key, output)), None)
    judged = family_verdicts(
        {key: list(against.values()) for key, against in effects.items()},
        margin=config.margin,
        primary=chosen,
        of_a={
            key: sum(records[name].role == CONTROL_A for name in against)
            for key, against in effects.items()
        },
    )
    found = []
    for key, against in effects.items():
        own_verdict = judged[key]
        if _poor(scores, key, [key[2], *against], output):
            own_verdict = Judged(TOO_POOR, None, None)
        needed, sought = None, None
        first = next(iter(against.values()))
        if own_verdict.verdict == NO_EVIDENCE and _holds_0(first):
            sought = config.margin or abs(first.mean)
            needed = _needed(first, sought, config.seeds)
        found.append(Comparison(*key, output, against, own_verdict, key == chosen, needed, sought))
    return found


def common_runs(own: Runs, other: Runs) -> tuple[Runs, Runs] | None:
    """The runs and patients that both arms have: weights from outside may have seen a patient.

    None: there are no such runs.
    """
    sides: tuple[dict[RunKey, dict[str, float]], dict[RunKey, dict[str, float]]] = ({}, {})
    for key in sorted(own.keys() & other.keys()):
        patients = own[key].keys() & other[key].keys()
        if patients:
            for side, runs in zip(sides, (own, other), strict=True):
                side[key] = {p: value for p, value in runs[key].items() if p in patients}
    return sides if sides[0] else None


def _controls_of(arm: ArmRecord, arms: Sequence[ArmRecord]) -> list[str]:
    """Control A, also at the arm's own rate, and control B; of a tuned arm the tuned ones."""
    if arm.tuned_from:
        return [each.name for each in arms if each.tuned_from and each.tuned_from == each.role]
    shared = [each.name for each in arms if each.role == each.name]
    own = [arm.own_control] if arm.own_control else []
    return [shared[0], *own, *shared[1:]]


def _holds_0(effect: Effect) -> bool:
    return effect.low is not None and effect.high is not None and effect.low <= 0 <= effect.high


def _needed(effect: Effect, sought: float, seeds: int) -> int | None:
    """Test patients that find such a difference with a power of 80%."""
    if not sought or effect.error is None or effect.run_sd is None:
        return None
    return patients_for_difference(effect, sought, seeds)


def _is_primary(primary: Primary | None, key: tuple[str, str, str], output: str) -> bool:
    if primary is None:
        return False
    network, budget, arm = key
    return (
        (primary.strategy, primary.budget, primary.output) == (arm, budget, output)
        and primary.network in ("", network)
    )  # fmt: skip


def _poor(scores: StudyScores, key: tuple[str, str, str], arms: Sequence[str], output: str) -> bool:
    """Whether none of these arms reaches the floor; False where there is nothing to find."""
    network, budget, _ = key
    means = []
    for arm in arms:
        found = scores.runs((network, arm, budget), output, found=True)
        if found:
            means.append(fmean(map(fmean, by_patient(found.values()).values())))
    return below_floor(means)


def _ranks(scores: StudyScores) -> dict[Key, Rank]:
    """Of the arms that have all runs, within a network and a budget."""
    found: dict[Key, Rank] = {}
    for output in scores.outputs():
        places = dict.fromkeys((network, budget) for network, _, budget in scores.cells)
        for network, budget in places:
            runs = {
                arm: scores.runs((network, arm, budget), output)
                for other, arm, at in scores.cells
                if (other, at) == (network, budget)
            }
            tested = {
                arm: {key: set(own) for key, own in each.items()} for arm, each in runs.items()
            }
            most = max(tested.values(), key=lambda own: sum(map(len, own.values())))
            whole = {arm: runs[arm] for arm, own in tested.items() if own == most}
            if len(whole) > 1:
                for arm, rank in rank_arms(whole).items():
                    found[network, budget, arm, output] = rank
    return found
