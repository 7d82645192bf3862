"""What choosing a model without labels costs, and whether the shift tells the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from medtl.errors import DataError
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.study.transferability.agreement import rank_agreement

#: Ways to choose that need no score.
ALWAYS_SOURCE, RANDOM = "always zero-shot", "a random arm"


def pick(scores: Mapping[str, float]) -> str:
    """The arm of the highest score; of equals the first.

    >>> from medtl.study.sites.regret import pick
    >>> pick({"zero-shot": 0.5, "adabn": 0.75, "dann": 0.75})
    'adabn'
    """
    return max(scores, key=lambda arm: scores[arm])


def regret(tested: Mapping[str, float], picked: str) -> float:
    """How much better the best arm is on the test patients than the one that was picked.

    >>> from medtl.study.sites.regret import regret
    >>> regret({"zero-shot": 0.5, "adabn": 0.75}, "zero-shot")
    0.25
    """
    return max(tested.values()) - tested[picked]


def random_regret(tested: Mapping[str, float]) -> float:
    """The mean regret of picking an arm at random, each as likely as the others."""
    return max(tested.values()) - fmean(tested.values())


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation over ``sites``; None: it is not defined.

    ``p``: one-sided, exact by permutation up to 8 sites: of a larger loss at a larger shift.
    """

    sites: int
    spearman: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rank_correlation(values: Mapping[str, float], others: Mapping[str, float]) -> Correlation:
    """Spearman's correlation of two values of the same sites.

    The interval of 95% is that of Bonett and Wright (2000), from 5 sites on.
    """
    names = [name for name in values if name in others]
    try:
        found = rank_agreement(
            {name: values[name] for name in names}, {name: others[name] for name in names}
        )
    except DataError:  # fewer than two sites, or all alike
        return Correlation(len(names))
    low, high = _interval(found.spearman, len(names))
    return Correlation(len(names), found.spearman, found.spearman_p, low, high)


def _interval(spearman: float, sites: int) -> tuple[float | None, float | None]:
    """Symmetric on the scale of Fisher's z; none where all ranks agree."""
    if sites < FEWEST_FOR_INTERVAL or math.isclose(abs(spearman), 1):
        return None, None
    half = 1.959963984540054 * math.sqrt((1 + spearman**2 / 2) / (sites - 3))
    centre = math.atanh(spearman)
    return math.tanh(centre - half), math.tanh(centre + half)


@dataclass(frozen=True, slots=True)
class SelectorRegret:
    """The mean regret of a way to choose over sites and seeds, and over the seeds of each site."""

    selector: str
    mean: float
    by_site: Mapping[str, float]
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "by_site": dict(self.by_site)}


def mean_regret(selector: str, regrets: Sequence[tuple[str, float]]) -> SelectorRegret:
    """The mean over (site, regret) of each run; sites with more runs count more."""
    by_site: dict[str, list[float]] = {}
    for site, value in regrets:
        by_site.setdefault(site, []).append(value)
    means = {site: fmean(values) for site, values in by_site.items()}
    return SelectorRegret(selector, fmean(value for _, value in regrets), means, len(regrets))
