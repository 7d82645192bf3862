"""What leaving each site out has shown, per site and over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from medtl.evaluation.comparison.effects import Effect, Runs, paired_effect
from medtl.evaluation.comparison.verdicts import Judged, arm_verdicts
from medtl.evaluation.intervals import (
    CONFIDENCE,
    FEWEST_FOR_INTERVAL,
    Interval,
    interval,
    patient_means,
)
from medtl.study.arms import ZERO_SHOT
from medtl.study.scores import by_patient
from medtl.study.sites.regret import (
    ALWAYS_SOURCE,
    RANDOM,
    Correlation,
    SelectorRegret,
    mean_regret,
    pick,
    random_regret,
    rank_correlation,
    regret,
)
from medtl.study.sites.scores import SiteScores
from medtl.study.sites.selectors import SELECTORS
from medtl.study.sites.shift import SiteShift
from medtl.transfer.strategies.base import SOURCE

#: run -> selector -> score; see :func:`medtl.study.sites.selectors.score_runs`.
Selected = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Loss:
    """The source's score less the target's, of one network; other patients on either side."""

    mean: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site as the target. ``picks``: selector -> the arm that it picked, by seed."""

    site: str
    output: str
    shift: SiteShift | None
    source: Interval | None  #: of the source's network on held-out patients of the source
    target: Interval  #: of the same network on the site's test patients
    loss: Loss | None
    gains: Mapping[str, Effect]  #: of each arm over zero-shot
    picks: Mapping[str, tuple[str, ...]]
    regrets: Mapping[str, float]  #: of each selector, the mean over seeds

    def to_json(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "output": self.output,
            "tested": self.target.n,
            "shift": self.shift.to_json() if self.shift else None,
            "source": self.source.to_json() if self.source else None,
            "target": self.target.to_json(),
            "loss": self.loss.to_json() if self.loss else None,
            "gains": {arm: effect.to_json() for arm, effect in self.gains.items()},
            "picks": {name: list(arms) for name, arms in self.picks.items()},
            "regrets": dict(self.regrets),
        }


@dataclass(frozen=True, slots=True)
class PooledGain:
    """The gain of an arm over zero-shot, over the patients of all sites."""

    arm: str
    output: str
    effect: Effect
    judged: Judged

    def to_json(self) -> dict[str, Any]:
        return {"arm": self.arm, "output": self.output, **asdict(self.judged),
                "gain": self.effect.to_json()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SiteFindings:
    """Everything that tables and figures of leaving each site out show.

    ``regrets`` and ``correlations``: by output.
    """

    metric: str
    arms: tuple[str, ...]  #: that are compared with zero-shot
    rows: tuple[SiteRow, ...]
    gains: tuple[PooledGain, ...]
    regrets: Mapping[str, tuple[SelectorRegret, ...]]
    correlations: Mapping[str, Correlation]

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "sites": [row.to_json() for row in self.rows],
            "gains": [gain.to_json() for gain in self.gains],
            "regrets": {
                output: [each.to_json() for each in found] for output, found in self.regrets.items()
            },
            "shift_and_loss": {
                output: found.to_json() for output, found in self.correlations.items()
            },
        }


def find_sites(
    scores: SiteScores,
    shifts: Mapping[str, SiteShift],
    selected: Selected,
    *,
    margin: float | None = None,
) -> SiteFindings:
    """Compare the arms within each site and over all sites."""
    rows: list[SiteRow] = []
    gains: list[PooledGain] = []
    regrets, correlations = {}, {}
    for output in scores.outputs():
        own = [
            _row(scores, fold, output, shifts.get(site), selected)
            for fold, site in enumerate(scores.sites)
            if scores.runs(ZERO_SHOT, output, fold)
        ]
        rows += own
        gains += _pooled(scores, output, own, margin)
        regrets[output] = tuple(_regrets(scores, output, selected))
        correlations[output] = rank_correlation(
            {row.site: row.shift.value for row in own if row.shift and row.shift.value is not None},
            {row.site: row.loss.mean for row in own if row.loss},
        )
    arms = tuple(arm for arm in scores.adapted if arm != ZERO_SHOT)
    return SiteFindings(scores.metric, arms, tuple(rows), tuple(gains), regrets, correlations)


def _row(
    scores: SiteScores, fold: int, output: str, shift: SiteShift | None, selected: Selected
) -> SiteRow:
    target = by_patient(scores.runs(ZERO_SHOT, output, fold).values())
    source = by_patient(scores.runs(SOURCE, output, fold).values())
    gains = {}
    for arm in scores.adapted:
        pair = _pair(scores, arm, output, fold)
        if arm != ZERO_SHOT and pair is not None:
            gains[arm] = paired_effect(*pair)
    picks: dict[str, list[str]] = {}
    losses: dict[str, list[float]] = {}
    for _, tested, chosen in _choices(scores, output, selected, fold):
        for selector, arm in chosen.items():
            picks.setdefault(selector, []).append(arm)
            losses.setdefault(selector, []).append(regret(tested, arm))
    return SiteRow(
        scores.sites[fold],
        output,
        shift,
        interval(source) if source else None,
        interval(target),
        _loss(source, target) if source else None,
        gains,
        {name: tuple(arms) for name, arms in picks.items()},
        {name: fmean(values) for name, values in losses.items()},
    )


def _loss(source: Mapping[str, Sequence[float]], target: Mapping[str, Sequence[float]]) -> Loss:
    """With the interval of Welch (1947) over patients, whose seeds are averaged first."""
    from scipy.stats import ttest_ind

    ours, theirs = (list(patient_means(side).values()) for side in (source, target))
    mean = fmean(ours) - fmean(theirs)
    if min(len(ours), len(theirs)) < FEWEST_FOR_INTERVAL or len({*ours}) + len({*theirs}) < 3:
        return Loss(mean, None, None)
    found = ttest_ind(ours, theirs, equal_var=False).confidence_interval(CONFIDENCE)
    return Loss(mean, max(float(found.low), -1.0), min(float(found.high), 1.0))


def _pair(scores: SiteScores, arm: str, output: str, fold: int | None) -> tuple[Runs, Runs] | None:
    """The arm and zero-shot in the runs that both have."""
    own, other = (scores.runs(name, output, fold) for name in (arm, ZERO_SHOT))
    keys = sorted(own.keys() & other.keys())
    if not keys:
        return None
    return {key: own[key] for key in keys}, {key: other[key] for key in keys}


def _choices(
    scores: SiteScores, output: str, selected: Selected, fold: int
) -> list[tuple[int, dict[str, float], dict[str, str]]]:
    """Of each seed: arm -> mean score on the test patients, and what each selector picked."""
    found = []
    for key in scores.runs(ZERO_SHOT, output, fold):
        tested: dict[str, float] = {}
        told: dict[str, Mapping[str, float]] = {}
        for arm in scores.adapted:
            values = scores.runs(arm, output, fold).get(key)
            known = selected.get(scores.names[arm].get(key, ""))
            if values and known:
                tested[arm], told[arm] = fmean(values.values()), known
        if len(tested) < 2:
            continue
        chosen = {}
        for selector in SELECTORS:
            if all(selector in each for each in told.values()):
                chosen[selector] = pick({arm: each[selector] for arm, each in told.items()})
        found.append((key[1], tested, chosen))
    return found


def _regrets(scores: SiteScores, output: str, selected: Selected) -> list[SelectorRegret]:
    """Of each selector, and of choosing without one."""
    every: dict[str, list[tuple[str, float]]] = {}
    for fold, site in enumerate(scores.sites):
        for _, tested, chosen in _choices(scores, output, selected, fold):
            for selector, arm in chosen.items():
                every.setdefault(selector, []).append((site, regret(tested, arm)))
            if ZERO_SHOT in tested:
                every.setdefault(ALWAYS_SOURCE, []).append((site, regret(tested, ZERO_SHOT)))
            every.setdefault(RANDOM, []).append((site, random_regret(tested)))
    order = [*SELECTORS, ALWAYS_SOURCE, RANDOM]
    return [mean_regret(name, every[name]) for name in order if name in every]


def _pooled(
    scores: SiteScores, output: str, rows: Sequence[SiteRow], margin: float | None
) -> list[PooledGain]:
    """A run is a site and a seed. Where every site has too few patients there is no interval."""
    effects = {}
    for arm in scores.adapted:
        pair = _pair(scores, arm, output, None)
        if arm != ZERO_SHOT and pair is not None:
            effect = paired_effect(*pair)
            if max(row.target.n for row in rows) < FEWEST_FOR_INTERVAL:
                effect = replace(effect, low=None, high=None, p=None, error=None, df=None)
            effects[arm] = effect
    judged = arm_verdicts(effects, margin=margin)
    return [PooledGain(arm, output, effect, judged[arm]) for arm, effect in effects.items()]
