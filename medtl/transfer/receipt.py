"""Receipts: what happened to every tensor in a weight transfer, with shares of parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from medtl.runtime.run_folder import RECEIPTS, Run
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table, percentage

Status = Literal["loaded", "adapted", "random", "skipped"]

#: Those that share the network's parameters.
STATUSES = ("loaded", "adapted", "random")

#: Notes per block, and names of skipped tensors, in a table.
MOST_NOTES, MOST_SKIPPED = 2, 5


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """One tensor. ``skipped`` rows exist only in the source and count for no share."""

    name: str
    block: str
    status: Status
    shape: tuple[int, ...]
    numel: int
    parameter: bool = True  #: False for a buffer
    source: str = ""  #: its name in the source
    note: str = ""  #: the reason, and the factors applied
    factors: dict[str, float] = field(default_factory=dict)  #: per modality; "all": the tensor


@dataclass(frozen=True, slots=True, repr=False)
class Receipt(Shown):
    """A transfer into one network, by tensor; shared tensors have one row."""

    origin: str
    tensors: tuple[ReceiptRow, ...]
    new_modalities: tuple[str, ...] = ()
    identical_modalities: tuple[tuple[str, str], ...] = ()  #: equal but for a factor
    notes: tuple[str, ...] = ()
    whose: str = "network"  #: the stage, or the network, that took the weights

    @property
    def title(self) -> str:
        return f"{self.whose}: {percentage(self.transferred)} of the parameters transferred"

    @property
    def shares(self) -> dict[str, float]:
        """Share of the network's parameters per status; loaded + adapted + random = 1."""
        counted = [row for row in self.tensors if row.parameter and row.status != "skipped"]
        total = sum(row.numel for row in counted)
        return {
            status: sum(r.numel for r in counted if r.status == status) / total if total else 0.0
            for status in STATUSES
        }

    @property
    def transferred(self) -> float:
        """Share of the network's parameters that was loaded or adapted."""
        shares = self.shares
        return shares["loaded"] + shares["adapted"]

    def rows(self) -> list[dict[str, Any]]:
        """One per tensor: name, block, status, shape, numel, source, note, ..."""
        return [asdict(row) for row in self.tensors]

    def tables(self) -> list[Table]:
        """The shares of each block's parameters that were loaded, adapted and left random."""
        rows = []
        for block, counts in block_shares(self.tensors).items():
            size = sum(counts.values())
            shares = [_percent(counts.get(status, 0) / size) for status in STATUSES]
            rows.append((block, f"{size:,}", *shares, self._block_notes(block)))
        total = sum(row.numel for row in self.tensors if row.parameter and row.status != "skipped")
        rows.append(("all", f"{total:,}", *map(_percent, self.shares.values()), "sum 100%"))
        columns = ("block", "parameters", *STATUSES, "notes")
        return [Table(f"into {self.whose}", columns, tuple(rows), self._table_notes())]

    def _block_notes(self, block: str) -> str:
        """The notes of the block's tensors, each once."""
        notes = [row.note for row in self.tensors if row.block == block and row.note]
        unique = list(dict.fromkeys(notes))
        left = len(unique) - MOST_NOTES
        more = f" ({left} more)" if left > 0 else ""
        return "; ".join(unique[:MOST_NOTES]) + more

    def _table_notes(self) -> tuple[str, ...]:
        skipped = [row.name for row in self.tensors if row.status == "skipped"]
        if not skipped:
            return self.notes
        left = len(skipped) - MOST_SKIPPED
        more = f" and {left} more" if left > 0 else ""
        names = ", ".join(skipped[:MOST_SKIPPED])
        return f"skipped, only in the file: {names}{more}", *self.notes

    @classmethod
    def from_json(cls, body: Mapping[str, Any], whose: str = "network") -> Receipt:
        """What ``to_json`` wrote."""
        known = {column.name for column in fields(ReceiptRow)}
        rows = [{key: row[key] for key in row.keys() & known} for row in body["tensors"]]
        return cls(
            body["origin"],
            tuple(ReceiptRow(**{**row, "shape": tuple(row["shape"])}) for row in rows),
            tuple(body["new_modalities"]),
            tuple((a, b) for a, b in body["identical_modalities"]),
            tuple(body["notes"]),
            whose,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "origin": self.origin,
            "shares": self.shares,
            "new_modalities": list(self.new_modalities),
            "identical_modalities": [list(pair) for pair in self.identical_modalities],
            "notes": list(self.notes),
            "tensors": self.rows(),
        }


def read_receipts(run: Run) -> dict[str, Any]:
    """The receipts of a run by stage, as JSON. Raises RunError where they are damaged."""
    from medtl.runtime.records import (
        ALL_RECEIPTS,
        checked,  # pydantic is slow to import
    )

    content: dict[str, Any] = run.read_json(RECEIPTS)
    checked(ALL_RECEIPTS, content, run.path / RECEIPTS)
    return content


def receipts_of(run: Run) -> dict[str, Receipt]:
    """The receipts of a run by stage. Raises RunError where they are damaged."""
    return {stage: Receipt.from_json(body, stage) for stage, body in read_receipts(run).items()}


def identical_notes(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Notes on modalities whose first-layer weights are identical."""
    return tuple(
        f"{a} and {b} start with equal weights, so their channels must be trained" for a, b in pairs
    )


def redrawn(
    receipt: Receipt, notes: Mapping[str, str], first_layers: Collection[str], summary: str
) -> Receipt:
    """The receipt after the tensors in ``notes`` (name -> reason) were redrawn at random.

    First layers among them then hold no features of new or identical modalities.
    """
    tensors = tuple(
        replace(row, status="random", note="; ".join(filter(None, (row.note, notes[row.name]))))
        if row.name in notes
        else row
        for row in receipt.tensors
    )
    all_notes = (*receipt.notes, summary)
    if not set(first_layers) & set(notes):
        return replace(receipt, tensors=tensors, notes=all_notes)
    gone = identical_notes(receipt.identical_modalities)
    return replace(
        receipt,
        tensors=tensors,
        new_modalities=(),
        identical_modalities=(),
        notes=tuple(note for note in all_notes if note not in gone),
    )


def block_shares(rows: Sequence[ReceiptRow]) -> dict[str, dict[str, int]]:
    """Parameters per block and status: ``{"stem": {"adapted": 864}, ...}``, in row order."""
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.parameter and row.status != "skipped":
            counts = table.setdefault(row.block, {})
            counts[row.status] = counts.get(row.status, 0) + row.numel
    return table


def _percent(share: float) -> str:
    return percentage(share) if share else "-"
