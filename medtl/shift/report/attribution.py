"""The kind of a shift: each family of features alone, and the effect of harmonisers.

Axes: N row, F feature, U unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medtl.runtime.table import Table
from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.images.pool import Pooled
from medtl.shift.report.sentences import footnotes, number, percent, probability, times
from medtl.shift.stats.metric_result import NEAR_ZERO, MetricResult, adjust, join_notes
from medtl.shift.stats.permutations import ALPHA

#: The family of the labels.
LABEL = "label"

#: Family of columns -> its description.
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
    """One family: its tested shift, and its share of the squared difference of the means."""

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
    """The shift that is left after a harmoniser, and the share that it removed."""

    harmoniser: str
    left: float | None  #: squared difference of the scaled columns' means
    p: float | None  #: of the primary metric after harmonising
    removed: float | None  #: None if the stored images show no shift
    note: str = ""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The kind of a shift: its families of features, and the effect of harmonisers."""

    parts: tuple[FamilyShift, ...]
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    modalities_differ: bool = False  #: harmonisers then map the target's onto the source's

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def without_shares(self) -> Attribution:
        """The attribution without shares, for a shift that is not significant."""
        return replace(self, parts=tuple(replace(part, share=None) for part in self.parts))

    @property
    def leading(self) -> FamilyShift | None:
        """The significant family with the largest share."""
        shifted = [part for part in self.parts if part.shifted and part.share is not None]
        return max(shifted, key=lambda part: part.share or 0.0, default=None)

    @property
    def best(self) -> Removal | None:
        """The harmoniser that removes the largest share."""
        useful = [removal for removal in self.removals if removal.removed is not None]
        return max(useful, key=lambda removal: removal.removed or 0.0, default=None)


#: (metric, its scorer) -> result of the comparison, between two domains or several
MetricTest = Callable[[ShiftMetric, Scorer], MetricResult]


def family_shifts(
    pooled: Pooled,
    test: MetricTest,
    metric: ShiftMetric,
    linear: ShiftMetric,
    label: tuple[Pooled, MetricTest] | None = None,
) -> tuple[FamilyShift, ...]:
    """Measure each family by ``metric`` on its columns alone, with p corrected over all families.

    Args:
        linear: MMD with the linear kernel, the unbiased squared difference of the means. It adds
            up over features, so each family has a share of the total.
        label: the rows of the labels, and their test.
    """
    column_N = [family_of(name) for name in pooled.rows.names]
    families = [family for family in FAMILIES if family in column_N]
    results: list[MetricResult] = []
    squares: list[float] = []
    for family in families:
        rows = select_columns(pooled.rows, [i for i, name in enumerate(column_N) if name == family])
        results.append(test(metric, metric.prepare(rows)))
        squares.append(max(0.0, test(linear, linear.prepare(rows)).value or 0.0))
    total = sum(squares)
    shares = [square / total if total else None for square in squares]
    adjusted = adjust(results)
    if label:
        sample, label_test = label
        last = label_test(metric, metric.prepare(sample.rows))
        families, shares = [*families, LABEL], [*shares, None]
        if sample.same_patients(pooled):
            adjusted = adjust([*results, last])
        else:
            adjusted.append(_bonferroni(last, len(families)))
    return tuple(
        FamilyShift(name, r.value, r.p_adjusted, r.effect, share, without_interval(r.note))
        for name, r, share in zip(families, adjusted, shares, strict=True)
    )


def _bonferroni(result: MetricResult, families: int) -> MetricResult:
    """Correct a test of other patients, which does not share the permutations of the families."""
    if result.p is None:
        return result
    note = join_notes(result.note, "other patients than above; p by Bonferroni")
    return replace(result, p_adjusted=min(1.0, families * result.p), note=note)


def without_interval(note: str) -> str:
    """The note without remarks on the interval, which no table here has."""
    return "; ".join(part for part in note.split("; ") if part != NEAR_ZERO)


def family_of(column: str) -> str:
    return column.partition("/")[0]


def select_columns(rows: Rows, chosen: Sequence[int]) -> Rows:
    """The rows with some of their columns."""
    names = tuple(rows.names[i] for i in chosen)
    return replace(rows, values_NF=rows.values_NF[:, chosen], names=names)


def attribution_tables(attribution: Attribution, synthetic: bool) -> list[Table]:
    """The families by their share, and the harmonisers with the share that they remove."""
    suffix = "; synthetic phantom" if synthetic else ""
    families = sorted(attribution.parts, key=lambda part: -(part.share or 0.0))
    rows = [
        (
            FAMILIES[part.family],
            percent(part.share),
            number(part.value),
            probability(part.p_adjusted),
            times(part.effect),
        )
        for part in families
    ]
    notes = (
        "share: of the squared difference of the features' means (features as z-scores)",
        *footnotes((FAMILIES[part.family], part.note) for part in families),
    )
    title = f"Kind of shift: each family of features alone{suffix}"
    columns = ("family", "share", "mmd", "adjusted p", "effect")
    tables = [Table(title, columns, tuple(rows), notes)]
    if attribution.removals:
        onto = " (all modalities onto the source's)" if attribution.modalities_differ else ""
        left = [
            (r.harmoniser, percent(r.removed), number(r.left), probability(r.p))
            for r in attribution.removals
        ]
        notes = (
            "left: squared difference of the features' means (features as z-scores), without bias, "
            "so that it may be below 0",
            "p: one-sided, whether mmd still finds a shift",
            *footnotes((r.harmoniser, r.note) for r in attribution.removals),
        )
        title = f"Shift after harmonising{onto}{suffix}"
        tables.append(Table(title, ("harmoniser", "removed", "left", "p"), tuple(left), notes))
    return tables
