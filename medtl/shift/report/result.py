"""What a measurement of shift says: rows for machines, tables for people, the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medtl.runtime.table import Table
from medtl.shift.images.pool import Pooled
from medtl.shift.metrics.distributions import FeatureShift
from medtl.shift.report.attribution import Attribution, attribution_tables
from medtl.shift.report.sentences import number, probability
from medtl.shift.stats.permutations import ALPHA

#: Longer ones are cut in tables; they stand in the notes.
LONGEST_NOTE = 90


#: What the source of an omnibus row starts with: "each site".
EACH = "each "


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One metric on one source and target; None where it could not be computed or is not tested."""

    source: str
    target: str
    metric: str
    features: str
    value: float | None
    null_low: float | None
    null_high: float | None
    low: float | None
    high: float | None
    p: float | None
    p_floor: float | None
    p_adjusted: float | None
    effect: float | None
    design: str
    n_source: int
    n_target: int
    synthetic: bool
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Shift:
    """All rows, the one that carries the verdict first."""

    rows: tuple[ShiftRow, ...]
    verdict: str
    notes: tuple[str, ...] = ()
    samples: Mapping[str, Pooled] = field(default_factory=dict)  #: by features
    attribution: Attribution | None = None
    advice: tuple[str, ...] = ()
    by_feature: Mapping[str, Sequence[FeatureShift]] = field(default_factory=dict)  #: by features

    @property
    def synthetic(self) -> bool:
        return any(row.synthetic for row in self.rows)

    @property
    def primary(self) -> ShiftRow:
        return self.rows[0]

    def to_json(self) -> list[dict[str, Any]]:
        return [row.to_json() for row in self.rows]

    def whole(self) -> list[ShiftRow]:
        """The rows of the domains as wholes."""
        ends = self.primary.source, self.primary.target
        return [row for row in self.rows if (row.source, row.target) == ends]

    def cells(self) -> list[ShiftRow]:
        """The primary metric and features on each cell of the grid."""
        kind = self.primary.metric, self.primary.features
        rows = [row for row in self.rows if (row.metric, row.features) == kind]
        return [row for row in rows if row not in self.whole()]


def tables(shift: Shift) -> list[Table]:
    """Every metric on the pooled domains; the primary metric on each cell of the grid."""
    primary, cells = shift.primary, shift.cells()
    title = "Shift between the domains"
    made = [_table(title, shift.whole(), shift.synthetic, ("features", "metric"))]
    if cells:
        title = f"{primary.metric} of {primary.features}, cell by cell (exploratory)"
        made.append(_table(title, cells, shift.synthetic, ("source", "target")))
    if shift.attribution:
        made += attribution_tables(shift.attribution, shift.synthetic)
    return made


def _table(title: str, rows: Sequence[ShiftRow], synthetic: bool, names: tuple[str, str]) -> Table:
    cells = [
        (
            *(getattr(row, name) for name in names),
            number(row.value),
            _band(row.null_low, row.null_high),
            probability(row.p),
            probability(row.p_adjusted),
            "-" if row.effect is None else f"{row.effect:.1f}x",
            _band(row.low, row.high),
            row.note if len(row.note) <= LONGEST_NOTE else row.note.partition(",")[0],
        )
        for row in rows
    ]
    columns = (
        *names,
        "value",
        "no shift: 2.5-97.5%",
        "p",
        "p adjusted",
        "effect",
        "interval",
        "note",
    )
    kept = [i for i in range(len(columns)) if any(line[i] not in ("", "-") for line in cells)]
    return Table(
        title + ("; synthetic phantom" if synthetic else ""),
        tuple(columns[i] for i in kept),
        tuple(tuple(line[i] for i in kept) for line in cells),
    )


def _band(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"


def verdict_of(row: ShiftRow) -> str:
    """One sentence on the primary metric."""
    ends = f"{row.source} -> {row.target}"
    if row.note.startswith("identical"):
        return f"No shift: {ends} holds the same images on both sides; nothing was tested."
    if row.p is None or row.p_floor is None:
        return f"No verdict on {ends}: {row.note or 'no p-value'}."
    n = f"{row.n_source} and {row.n_target} patients, {row.design}"
    if row.source.startswith(EACH):
        n = f"{row.n_source} patients"
    if row.p_floor > ALPHA:
        return f"No verdict on {ends} ({n}): {row.note}."
    effect = (
        f", {row.effect:.1f} times that between random halves"
        if row.effect and row.effect > 0
        else ""
    )
    measured = f"{row.metric} of {row.features} {row.value:.3g}{effect}, p = {probability(row.p)}"
    least = _least(row.p, row.p_floor)
    if row.p <= ALPHA:
        return f"There is a shift, {ends}: {measured} ({n}{least})."
    return (
        f"No evidence of a shift, {ends}: {measured} ({n}{least}); that does not prove there is "
        "none."
    )


def _least(p: float, floor: float) -> str:
    """What the number of patients allows, where that is little or all of it was needed."""
    if 2 * floor > ALPHA:
        return f"; {floor:.2g}, of the most extreme permutation alone, is the least possible"
    return f"; {floor:.2g} is the least possible" if p <= floor * 1.001 else ""
