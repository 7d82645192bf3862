"""The result of ``medtl shift``: rows for programs, tables for people, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medtl.runtime.shown import Pictures, Shown, read_pictures
from medtl.runtime.table import Table
from medtl.shift.report.sentences import footnotes, number, probability, times

if TYPE_CHECKING:
    from medtl.shift.images.pool import Pooled
    from medtl.shift.metrics.distributions import FeatureShift
    from medtl.shift.report.attribution import Attribution
    from medtl.shift.report.power import ShiftPower
    from medtl.shift.report.row import ShiftRow

#: Column -> its text in a row. Columns without any value are left out.
CELLS: Mapping[str, Callable[[ShiftRow], str]] = {
    "value": lambda row: number(row.value),
    "null": lambda row: _interval(row.null_low, row.null_high),
    "p": lambda row: probability(row.p),
    "adjusted p": lambda row: probability(row.p_adjusted),
    "effect": lambda row: times(row.effect),
    "95% interval": lambda row: _interval(row.low, row.high),
}

#: Column -> the note that explains it.
LEGEND = {
    "value": "value: without unit, on features as z-scores (domain-auroc: an AUROC)",
    "null": "null: 2.5% to 97.5% quantile of the value without shift, by permutation",
    "p": "p: one-sided, by permutation of patients",
    "adjusted p": "adjusted p: corrected for the number of tests (max-T)",
    "effect": "effect: value relative to random halves of one domain",
    "95% interval": "95% interval: jackknife over patients",
}


@dataclass(frozen=True, slots=True, repr=False)
class Shift(Shown):
    """A measured shift; the first row of ``measured`` carries the verdict."""

    measured: tuple[ShiftRow, ...]
    verdict: str  #: a sentence on the primary metric, with p and the numbers of patients
    notes: tuple[str, ...] = ()
    samples: Mapping[str, Pooled] = field(default_factory=dict)  #: by features
    attribution: Attribution | None = None
    advice: tuple[str, ...] = ()
    by_feature: Mapping[str, Sequence[FeatureShift]] = field(default_factory=dict)  #: by features
    power: ShiftPower | None = None  #: planned if asked for, and if the pilot allows it
    folder: Path | None = None  #: with the written results; None: not written

    @property
    def title(self) -> str:
        return self.verdict

    @property
    def synthetic(self) -> bool:
        return any(row.synthetic for row in self.measured)

    @property
    def primary(self) -> ShiftRow:
        return self.measured[0]

    @property
    def p(self) -> float | None:
        """One-sided p of the primary metric; None if nothing could be tested."""
        return self.primary.p

    @property
    def figures(self) -> Pictures:
        """Embeddings, densities, and the grid of modalities if there are several."""
        if self.folder is not None:
            return read_pictures(self.folder / "figures")
        with TemporaryDirectory() as folder:
            self.draw(Path(folder))
            return read_pictures(Path(folder))

    def draw(self, folder: Path) -> None:
        """Draw embeddings and densities of each set of features, and any grid of modalities."""
        from medtl.shift.report.figures import write_figures, write_grid

        ends = self.primary.source, self.primary.target
        for features, pooled in self.samples.items():
            write_figures(folder, pooled, features, ends, self.synthetic)
        cells = [row for row in self.cells() if row.value is not None]
        if cells:
            write_grid(folder / "grid.png", cells, self.synthetic)

    def rows(self) -> list[dict[str, Any]]:
        """A dict per source, target, features and metric; the first carries the verdict."""
        return [row.to_json() for row in self.measured]

    def to_json(self) -> list[dict[str, Any]]:
        """The rows, as ``medtl shift --json`` prints them."""
        return self.rows()

    def whole(self) -> list[ShiftRow]:
        """The rows of the whole domains."""
        ends = self.primary.source, self.primary.target
        return [row for row in self.measured if (row.source, row.target) == ends]

    def cells(self) -> list[ShiftRow]:
        """The rows of the primary metric and features in each cell of the grid."""
        kind = self.primary.metric, self.primary.features
        rows = [row for row in self.measured if (row.metric, row.features) == kind]
        return [row for row in rows if row not in self.whole()]

    def tables(self) -> list[Table]:
        """Every metric between the whole domains; the primary metric in each cell of the grid."""
        from medtl.shift.report.attribution import attribution_tables

        primary, cells = self.primary, self.cells()
        title = f"Shift from {primary.source} to {primary.target}, by features and metric"
        made = [_table(title, self.whole(), self.synthetic, ("features", "metric"))]
        if cells:
            title = f"{primary.metric} of {primary.features} by source and target (exploratory)"
            made.append(_table(title, cells, self.synthetic, ("source", "target")))
        if self.attribution:
            made += attribution_tables(self.attribution, self.synthetic)
        if self.power:
            made += self.power.tables()
        return made

    def pictures(self) -> tuple[Pictures, ...]:
        return (self.figures,)


def _table(title: str, rows: Sequence[ShiftRow], synthetic: bool, names: tuple[str, str]) -> Table:
    """A line per row, grouped by the first of the ``names``; notes below the table."""
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    columns |= {name: [text(row) for row in rows] for name, text in CELLS.items()}
    kept = {name: cells for name, cells in columns.items() if name in names or set(cells) != {"-"}}
    return Table(
        title + ("; synthetic phantom" if synthetic else ""),
        tuple(kept),
        tuple(zip(*kept.values(), strict=True)),
        (
            *(LEGEND[name] for name in kept if name in LEGEND),
            *footnotes((getattr(row, names[1]), row.note) for row in rows),
        ),
        grouped=True,
    )


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
