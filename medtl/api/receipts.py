"""What became of every tensor when weights were carried over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medtl.api.shown import Shown

if TYPE_CHECKING:
    from medtl import receipts
    from medtl.report.tables import Table


@dataclass(frozen=True, slots=True, repr=False)
class Receipt(Shown):
    """``whose``: the stage, or the network, that took the weights."""

    whose: str
    found: receipts.Receipt

    @property
    def title(self) -> str:
        return f"{self.whose}: {self.found.transferred:.1%} of the parameters transferred"

    @property
    def transferred(self) -> float:
        """Share of the network's parameters that was loaded or adapted."""
        return self.found.transferred

    @property
    def shares(self) -> dict[str, float]:
        """Share of the parameters that was loaded, adapted, random; the sum is 1."""
        return self.found.shares()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.found.notes

    def rows(self) -> list[dict[str, Any]]:
        """One per tensor: name, block, status, shape, numel, source, note, ..."""
        return [asdict(row) for row in self.found.rows]

    def tables(self) -> list[Table]:
        from medtl.report.receipts import receipt_table

        return [receipt_table(self.whose, self.found)]

    def to_json(self) -> dict[str, Any]:
        return self.found.to_json()
