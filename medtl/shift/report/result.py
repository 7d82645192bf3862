"""The result of ``medtl shift``: rows for programs, tables for people, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from medtl.shift.report.row import ShiftRow

#: What the columns of a table hold.
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
    folder: Path | None = None  #: where it was written, if it was

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
        """Embeddings, densities, and the grid of modalities if there is one."""
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
        """One per source, target, features and metric; the one with the verdict first."""
        return [row.to_json() for row in self.measured]

    def to_json(self) -> list[dict[str, Any]]:
        """As ``medtl shift --json`` prints it."""
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
        return made

    def pictures(self) -> tuple[Pictures, ...]:
        return (self.figures,)


def _table(title: str, rows: Sequence[ShiftRow], synthetic: bool, names: tuple[str, str]) -> Table:
    """A line per row, under the first of the ``names`` as a heading; notes below the table."""
    cells = [
        (
            *(getattr(row, name) for name in names),
            number(row.value),
            _interval(row.null_low, row.null_high),
            probability(row.p),
            probability(row.p_adjusted),
            times(row.effect),
            _interval(row.low, row.high),
        )
        for row in rows
    ]
    columns = (*names, "value", "null", "p", "adjusted p", "effect", "95% interval")
    kept = [i for i in range(len(columns)) if i < 2 or any(line[i] != "-" for line in cells)]
    notes = [LEGEND[columns[i]] for i in kept if columns[i] in LEGEND]
    return Table(
        title + ("; synthetic phantom" if synthetic else ""),
        tuple(columns[i] for i in kept),
        tuple(tuple(line[i] for i in kept) for line in cells),
        (*notes, *footnotes((getattr(row, names[1]), row.note) for row in rows)),
        grouped=True,
    )


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
