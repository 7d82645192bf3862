"""What the differences to the controls allow to say, for one comparison or a family of them.

The words are those of docs/concepts/controls.md. A comparison is *equivalent* if a margin was
declared and the differences to all controls lie within it, by two one-sided tests (Schuirmann
1987). This takes precedence over *helped* and *hurt*: with many patients an interval can exclude 0
and still lie within the margin, and a difference that was declared irrelevant beforehand is not
made relevant by showing that it exists.

In a family of comparisons the p values are adjusted by Holm (1979).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from medtl.evaluation.comparison.effects import LEVEL, Effect
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.evaluation.tables import FASTER as FASTER  # words of the tables, offered here too
from medtl.evaluation.tables import TOO_POOR as TOO_POOR

HELPED, NO_EVIDENCE, HURT = "helped", "no evidence", "hurt"


BETTER_THAN_A, NO_INTERVAL = "better than control A", "no interval"


EQUIVALENT = "equivalent"


#: Of two arms neither of which is a control.
BETTER, WORSE = "better", "worse"


#: The same of the words for a control alone.
_OF_ARMS = {BETTER_THAN_A: BETTER, HURT: WORSE}


#: The claim of "better" and of "worse".
_DIFFERENT = "different"


K = TypeVar("K", bound=Hashable)


class Difference(Protocol):
    """A mean difference over ``n`` patients with its 95% interval."""

    @property
    def mean(self) -> float: ...
    @property
    def n(self) -> int: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the p value of the test that decides it; None: there is none."""

    verdict: str
    p: float | None
    p_holm: float | None  #: of the primary comparison, a family of its own, the same as ``p``


def verdict(
    differences: Sequence[Difference],
    *,
    margin: float | None = None,
    level: float = LEVEL,
    of_a: int = 1,
) -> str:
    """The conclusion from the differences to control A and, if there is one, to control B.

    Args:
        of_a: how many of them, the first, are to control A, trained at several rates. *Helped*
            needs all of them, and *hurt* by control A needs all of them, too.
        margin: the largest difference that does not matter, declared beforehand. An
            :class:`~medtl.evaluation.intervals.Interval` has to lie within it at 95%, which is
            stricter than its test.

    Raises:
        ValueError: limits beyond 95% of a difference that has none.
    """
    if margin is not None and all(_within(each, margin, level) for each in differences):
        return EQUIVALENT
    sides = [_side(difference, level) for difference in differences]
    if None in sides:
        return NO_INTERVAL
    a, b = set(sides[:of_a]), set(sides[of_a:])
    if a == {1}:
        if not b:
            return BETTER_THAN_A
        return HELPED if b == {1} else FASTER
    return HURT if a == {-1} or -1 in b else NO_EVIDENCE


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """p values adjusted for their number (Holm 1979).

    >>> from medtl.evaluation.comparison.verdicts import holm
    >>> holm({"a": 0.02, "b": 0.25, "c": 0.125})
    {'a': 0.06, 'b': 0.25, 'c': 0.25}
    """
    adjusted: dict[K, float] = {}
    largest = 0.0
    for before, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - before) * p_values[key]))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}


def family_verdicts(
    rows: Mapping[K, Sequence[Effect]],
    *,
    margin: float | None = None,
    primary: K | None = None,
    level: float = LEVEL,
    of_a: Mapping[K, int] | None = None,
) -> dict[K, Judged]:
    """The verdict of each comparison; it stands only if its p value is at most ``level``.

    All but the ``primary`` comparison form the family whose p values are adjusted. Each kind of
    claim is adjusted by itself over all rows of the family: in one list of decisive tests, rows
    that are clearly "faster" would lend their share of the level to a wrong "helped".

    Args:
        rows: comparison -> the differences to control A and, if there is one, to control B.
        margin: as for :func:`verdict`. What is not sure to lie within it is judged without it.
        of_a: comparison -> as for :func:`verdict`.
    """
    known = {key: effects for key, effects in rows.items() if verdict(effects) != NO_INTERVAL}
    leading = {key: (of_a or {}).get(key, 1) for key in rows}
    claims = {key: _claims(effects, margin, leading[key]) for key, effects in known.items()}
    adjusted = _adjusted({key: own for key, own in claims.items() if key != primary})
    found = dict.fromkeys(rows, Judged(NO_INTERVAL, None, None))
    for key, effects in known.items():
        p, p_holm = claims[key], adjusted.get(key, claims[key])
        inside = margin if p_holm.get(EQUIVALENT, 1.0) <= level else None
        said = verdict(effects, margin=inside, level=level, of_a=leading[key])
        found[key] = _judged(said, effects, p, p_holm, level)
    return found


def arm_verdicts(
    differences: Mapping[K, Effect], *, margin: float | None = None, level: float = LEVEL
) -> dict[K, Judged]:
    """What each arm's difference to one and the same reference says; p by Holm over the arms.

    Args:
        margin: as for :func:`verdict`.

    Returns:
        "better", "worse", "equivalent", "no evidence" or "no interval". A difference in either
        direction is one claim, so that p is two-sided.
    """
    tested = {key: each for key, each in differences.items() if verdict([each]) != NO_INTERVAL}
    claims = {key: _two_sided(each, margin) for key, each in tested.items()}
    adjusted = _adjusted(claims)
    found = dict.fromkeys(differences, Judged(NO_INTERVAL, None, None))
    for key, own in claims.items():
        inside = margin if adjusted[key].get(EQUIVALENT, 1.0) <= level else None
        said = verdict([differences[key]], margin=inside, level=level)
        claim = EQUIVALENT if said == EQUIVALENT else _DIFFERENT
        p, p_holm = own[claim], adjusted[key][claim]
        word = _OF_ARMS.get(said, said)
        found[key] = Judged(word if p_holm <= level else NO_EVIDENCE, p, p_holm)
    return found


def _two_sided(effect: Effect, margin: float | None) -> dict[str, float]:
    within = None if margin is None else effect.equivalence_p(margin)
    equivalent = {} if margin is None else {EQUIVALENT: 1.0 if within is None else within}
    return {_DIFFERENT: _p(effect)} | equivalent


def _adjusted(claims: Mapping[K, Mapping[str, float]]) -> dict[K, dict[str, float]]:
    """The p values of each kind of claim, adjusted for the number of rows."""
    kinds = {kind for own in claims.values() for kind in own}
    by_kind = {kind: holm({key: own[kind] for key, own in claims.items()}) for kind in kinds}
    return {key: {kind: by_kind[kind][key] for kind in own} for key, own in claims.items()}


def _judged(
    said: str,
    effects: Sequence[Effect],
    p: Mapping[str, float],
    p_holm: Mapping[str, float],
    level: float,
) -> Judged:
    """What stands of a verdict after the adjustment."""
    if said == HELPED and p_holm[HELPED] > level >= p_holm[FASTER]:
        said = FASTER
    if said == FASTER and p_holm[FASTER] > level >= p_holm[HURT]:
        said = HURT  # not sure to be better than control A, and worse than B
    claim = _claim(said, effects)
    stands = p_holm[claim] <= level
    return Judged(said if stands else NO_EVIDENCE, p[claim], p_holm[claim])


def _claim(said: str, effects: Sequence[Effect]) -> str:
    """The claim of a verdict; for no evidence, the claim that it came nearest to."""
    if said != NO_EVIDENCE:
        return said
    return HELPED if all(effect.mean > 0 for effect in effects) else HURT


def _claims(effects: Sequence[Effect], margin: float | None, of_a: int) -> dict[str, float]:
    """The p value of each verdict that could be claimed.

    *Helped* needs all controls, so that the largest counts. *Hurt* needs control A, at all its
    rates, or control B, so that the smaller counts, times their number.
    """
    above = [_p(effect) if effect.mean > 0 else 1.0 for effect in effects]
    below = [_p(effect) if effect.mean < 0 else 1.0 for effect in effects]
    either = [max(below[:of_a]), *below[of_a:]]
    claims = {
        HELPED: max(above),
        FASTER: max(above[:of_a]),
        BETTER_THAN_A: max(above[:of_a]),
        HURT: min(1.0, len(either) * min(either)),
    }
    if margin is not None:
        within = [effect.equivalence_p(margin) for effect in effects]
        claims[EQUIVALENT] = max(1.0 if p is None else p for p in within)
    return claims


def _p(effect: Effect) -> float:
    return 1.0 if effect.p is None else effect.p


def _within(difference: Difference, margin: float, level: float) -> bool:
    limits = _limits(difference, 2 * level)
    return limits is not None and -margin <= limits[0] and limits[1] <= margin


def _side(difference: Difference, level: float) -> int | None:
    """On which side of 0 the interval lies; 0: on both, or no patient differs. None: there is no
    interval."""
    limits = _limits(difference, level)
    if limits is None:
        same = difference.n >= FEWEST_FOR_INTERVAL and difference.mean == 0
        return 0 if same else None
    return (limits[0] > 0) - (limits[1] < 0)


def _limits(difference: Difference, level: float) -> tuple[float, float] | None:
    """The limits at 1 - ``level``, or at 95% where only these are known and they are wider."""
    if isinstance(difference, Effect):
        return difference.limits(level)
    if difference.low is None or difference.high is None:
        return None
    if level < LEVEL:
        raise ValueError(f"only the 95% limits are known, not those of {1 - level:.1%}")
    return difference.low, difference.high
