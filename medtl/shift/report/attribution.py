"""What kind of shift it is: each family of features alone, and what harmonising would remove.

Axes: N row, F feature, U unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medtl.runtime.table import Table
from medtl.shift.contract import Scorer, ShiftMetric
from medtl.shift.images.pool import Pooled
from medtl.shift.report.sentences import number, percent, probability
from medtl.shift.stats.metric_result import NEAR_ZERO, MetricResult, adjust
from medtl.shift.stats.permutations import ALPHA

LABEL = "label"


#: family of columns -> what it says, in words
FAMILIES = {
    "scale": "intensity scale",
    "contrast": "contrast (histogram shape)",
    "noise": "noise and sharpness",
    "resolution": "resolution, voxel spacing",
    "view": "field of view, orientation",
    LABEL: "label prior",
}


@dataclass(frozen=True, slots=True)
class FamilyShift:
    """One family: its own shift, tested, and its share of the squared difference of the means."""

    family: str
    value: float | None
    p_adjusted: float | None
    effect: float | None
    share: float | None
    note: str = ""

    @property
    def shifted(self) -> bool:
        return self.p_adjusted is not None and self.p_adjusted <= ALPHA


@dataclass(frozen=True, slots=True)
class Removal:
    """The shift that is left after one way to harmonise, and the share that this removed."""

    harmoniser: str
    left: float | None  #: squared difference of the scaled columns' means
    p: float | None  #: whether the primary metric still finds a shift
    removed: float | None  #: None where no such difference was found as stored
    note: str = ""


@dataclass(frozen=True, slots=True)
class Attribution:
    parts: tuple[FamilyShift, ...]
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    modalities_differ: bool = False  #: harmonisers then bring the target's onto the source's

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def without_shares(self) -> Attribution:
        """Where no shift was found, there is none to share out."""
        return replace(self, parts=tuple(replace(part, share=None) for part in self.parts))

    @property
    def leading(self) -> FamilyShift | None:
        """The family with the largest share among those that are shifted."""
        shifted = [part for part in self.parts if part.shifted and part.share is not None]
        return max(shifted, key=lambda part: part.share or 0.0, default=None)

    @property
    def best(self) -> Removal | None:
        """The harmoniser that removes most."""
        useful = [each for each in self.removals if each.removed is not None]
        return max(useful, key=lambda each: each.removed or 0.0, default=None)


#: metric, its scorer -> outcome: the comparison that is explained, between two domains or several
MetricTest = Callable[[ShiftMetric, Scorer], MetricResult]


def parts_of(
    pooled: Pooled,
    test: MetricTest,
    metric: ShiftMetric,
    linear: ShiftMetric,
    label: tuple[Pooled, MetricTest] | None = None,
) -> tuple[FamilyShift, ...]:
    """Each family measured by ``metric`` on its columns alone, p-values corrected over all parts.

    ``linear`` (MMD with the linear kernel) is the unbiased squared difference of the means, which
    adds up over features: hence the shares. ``label``: the rows of the labels, and their test.
    """
    families = [name for name in FAMILIES if _columns(pooled, name)]
    outcomes: list[MetricResult] = []
    squares: list[float] = []
    for family in families:
        rows = _family(pooled, family).rows
        outcomes.append(test(metric, metric.prepare(rows)))
        squares.append(max(0.0, test(linear, linear.prepare(rows)).value or 0.0))
    total = sum(squares)
    shares = [square / total if total else None for square in squares]
    if label:
        sample, label_test = label
        outcomes.append(label_test(metric, metric.prepare(sample.rows)))
        families, shares = [*families, LABEL], [*shares, None]
        if not sample.same_patients(pooled):
            *others, last = outcomes
            outcomes = [*adjust(others), _bonferroni(last, len(outcomes))]
            return _parts(families, outcomes, shares)
    return _parts(families, adjust(outcomes), shares)


def _parts(
    families: Sequence[str], outcomes: Sequence[MetricResult], shares: Sequence[float | None]
) -> tuple[FamilyShift, ...]:
    return tuple(
        FamilyShift(
            family,
            outcome.value,
            outcome.p_adjusted,
            outcome.effect,
            share,
            without_interval(outcome.note),
        )
        for family, outcome, share in zip(families, outcomes, shares, strict=True)
    )


def _bonferroni(outcome: MetricResult, parts: int) -> MetricResult:
    """For a test of other patients, whose permutations are not those of the other parts."""
    if outcome.p is None:
        return outcome
    notes = [note for note in (outcome.note, "other patients than above; p by Bonferroni") if note]
    return replace(outcome, p_adjusted=min(1.0, parts * outcome.p), note="; ".join(notes))


def without_interval(note: str) -> str:
    """Notes on intervals say nothing where none is shown."""
    return "; ".join(part for part in note.split("; ") if part != NEAR_ZERO)


def family_of(column: str) -> str:
    return column.partition("/")[0]


def _columns(pooled: Pooled, family: str) -> list[int]:
    return [i for i, name in enumerate(pooled.rows.names) if family_of(name) == family]


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
            f"What kind of shift, by appearance{suffix}",
            ("part", "share", "mmd", "p adjusted", "effect", "note"),
            tuple(
                (
                    FAMILIES[part.family],
                    percent(part.share),
                    number(part.value),
                    probability(part.p_adjusted),
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
                ("harmoniser", "removed", "difference left", "p", "note"),
                tuple(
                    (r.harmoniser, percent(r.removed), number(r.left), probability(r.p), r.note)
                    for r in found.removals
                ),
                (
                    "removed: of the squared difference of the scaled features' means, where there "
                    "is one; p: whether mmd still finds a shift",
                ),
            )
        )
    return made
