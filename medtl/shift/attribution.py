"""What kind of shift it is: each family of features alone, and what harmonising would remove.

Axes: N row, F feature, U unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from medtl.report.tables import Table
from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.design import LEVEL
from medtl.shift.measure import NEAR_ZERO, Outcome, adjust
from medtl.shift.pooling import Pooled

#: family of columns -> what it says, in words
FAMILIES = {
    "scale": "intensity scale",
    "contrast": "contrast (histogram shape)",
    "noise": "noise and sharpness",
    "resolution": "resolution, voxel spacing",
    "view": "field of view, orientation",
    "label": "label prior",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One family: its own shift, tested, and its share of the squared difference of the means."""

    family: str
    value: float | None
    p_adjusted: float | None
    effect: float | None
    share: float | None
    note: str = ""

    @property
    def shifted(self) -> bool:
        return self.p_adjusted is not None and self.p_adjusted <= LEVEL


@dataclass(frozen=True, slots=True)
class Removal:
    """The shift that is left after one way to harmonise, and the share that this removed."""

    harmoniser: str
    value: float | None
    p: float | None
    removed: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Attribution:
    parts: tuple[Part, ...]
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    modalities_differ: bool = False  #: harmonisers then bring the target's onto the source's

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def leading(self) -> Part | None:
        """The family with the largest share among those that are shifted."""
        shifted = [part for part in self.parts if part.shifted and part.share is not None]
        return max(shifted, key=lambda part: part.share or 0.0, default=None)

    @property
    def best(self) -> Removal | None:
        """The harmoniser that removes most."""
        useful = [each for each in self.removals if each.removed is not None]
        return max(useful, key=lambda each: each.removed or 0.0, default=None)


#: metric, its scorer -> outcome: the comparison that is explained, between two domains or several
Test = Callable[[ShiftMetric, Scorer], Outcome]


def parts_of(
    pooled: Pooled, test: Test, metric: ShiftMetric, linear: ShiftMetric
) -> tuple[Part, ...]:
    """Each family measured by ``metric`` on its columns alone, p-values corrected over families.

    ``linear`` (MMD with the linear kernel) is the unbiased squared difference of the means, which
    adds up over features: hence the shares.
    """
    present = [name for name in FAMILIES if _columns(pooled, name)]
    outcomes: list[Outcome] = []
    squares: list[float] = []
    for family in present:
        rows = _family(pooled, family).rows
        outcomes.append(test(metric, metric.prepare(rows)))
        squares.append(max(0.0, test(linear, linear.prepare(rows)).value or 0.0))
    total = sum(squares)
    return tuple(
        Part(
            family,
            outcome.value,
            outcome.p_adjusted,
            outcome.effect,
            square / total if total else None,
            _without_interval(outcome.note),
        )
        for family, outcome, square in zip(present, adjust(outcomes), squares, strict=True)
    )


def removal(harmoniser: str, before: Outcome, after: Outcome) -> Removal:
    """What is left of a shift. No share where there was none to remove."""
    removed = None
    if before.value and before.p is not None and before.p <= LEVEL and after.value is not None:
        removed = 1 - max(0.0, after.value) / before.value
    return Removal(harmoniser, after.value, after.p, removed, _without_interval(after.note))


def _without_interval(note: str) -> str:
    """Notes on intervals say nothing where none is shown."""
    return "; ".join(part for part in note.split("; ") if part != NEAR_ZERO)


def _columns(pooled: Pooled, family: str) -> list[int]:
    return [i for i, name in enumerate(pooled.rows.names) if name.partition("/")[0] == family]


def _family(pooled: Pooled, family: str) -> Pooled:
    chosen = _columns(pooled, family)
    rows = replace(
        pooled.rows,
        values_NF=pooled.rows.values_NF[:, chosen],
        names=tuple(pooled.rows.names[i] for i in chosen),
    )
    return replace(pooled, rows=rows)


def attribution_tables(found: Attribution, synthetic: bool) -> list[Table]:
    """The families by share, and the harmonisers by what they remove."""
    suffix = "; synthetic phantom" if synthetic else ""
    parts = sorted(found.parts, key=lambda part: -(part.share or 0.0))
    made = [
        Table(
            f"What kind of shift{suffix}",
            ("part", "share", "mmd", "p adjusted", "effect", "note"),
            tuple(
                (
                    FAMILIES[part.family],
                    _percent(part.share),
                    _number(part.value),
                    _number(part.p_adjusted),
                    "-" if part.effect is None else f"{part.effect:.1f}x",
                    part.note,
                )
                for part in parts
            ),
            ("share: of the squared difference of the scaled features' means",),
        )
    ]
    if found.removals:
        to = " (all modalities onto the source's)" if found.modalities_differ else ""
        made.append(
            Table(
                f"What harmonising would remove{to}{suffix}",
                ("harmoniser", "mmd left", "p", "removed", "note"),
                tuple(
                    (r.harmoniser, _number(r.value), _number(r.p), _percent(r.removed), r.note)
                    for r in found.removals
                ),
            )
        )
    return made


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
