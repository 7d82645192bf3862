"""What happened to every tensor on a weight transfer, with shares of parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Status = Literal["loaded", "adapted", "random", "skipped"]


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """One tensor. ``skipped`` rows exist only in the source and hold no share of the network."""

    name: str
    block: str
    status: Status
    shape: tuple[int, ...]
    numel: int
    parameter: bool = True  #: False for a buffer
    source: str = ""  #: its name in the source
    note: str = ""  #: why, and the factors applied
    factors: dict[str, float] = field(default_factory=dict)  #: per modality; "all": the tensor


@dataclass(frozen=True, slots=True)
class Receipt:
    """The rows of a transfer into one network; shared tensors have one row."""

    origin: str
    rows: tuple[ReceiptRow, ...]
    new_modalities: tuple[str, ...] = ()
    identical_modalities: tuple[tuple[str, str], ...] = ()  #: equal but for a factor
    notes: tuple[str, ...] = ()

    def shares(self) -> dict[str, float]:
        """Share of the network's parameters per status; loaded + adapted + random = 1."""
        total = sum(row.numel for row in self.rows if row.parameter and row.status != "skipped")
        return {
            status: sum(r.numel for r in self.rows if r.parameter and r.status == status) / total
            if total
            else 0.0
            for status in ("loaded", "adapted", "random")
        }

    @property
    def transferred(self) -> float:
        shares = self.shares()
        return shares["loaded"] + shares["adapted"]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Receipt:
        """What ``to_json`` wrote."""
        rows = [ReceiptRow(**{**row, "shape": tuple(row["shape"])}) for row in body["tensors"]]
        return cls(
            body["origin"],
            tuple(rows),
            tuple(body["new_modalities"]),
            tuple((a, b) for a, b in body["identical_modalities"]),
            tuple(body["notes"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "origin": self.origin,
            "shares": self.shares(),
            "new_modalities": list(self.new_modalities),
            "identical_modalities": [list(pair) for pair in self.identical_modalities],
            "notes": list(self.notes),
            "tensors": [asdict(row) for row in self.rows],
        }


def alike_notes(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What a receipt says of modalities that the first layers cannot tell apart yet."""
    return tuple(
        f"{a} and {b} start out alike, so their channels must be trained" for a, b in pairs
    )


def redrawn(
    receipt: Receipt, notes: Mapping[str, str], first_layers: Collection[str], summary: str
) -> Receipt:
    """The receipt after the tensors in ``notes`` (name -> why) were filled anew at random.

    First layers among them hold no modality's features any more, new or alike.
    """
    rows = tuple(
        replace(row, status="random", note="; ".join(filter(None, (row.note, notes[row.name]))))
        if row.name in notes
        else row
        for row in receipt.rows
    )
    told = (*receipt.notes, summary)
    if not set(first_layers) & set(notes):
        return replace(receipt, rows=rows, notes=told)
    gone = alike_notes(receipt.identical_modalities)
    return replace(
        receipt,
        rows=rows,
        new_modalities=(),
        identical_modalities=(),
        notes=tuple(note for note in told if note not in gone),
    )


def block_shares(rows: Sequence[ReceiptRow]) -> dict[str, dict[str, int]]:
    """Parameters per block and status: ``{"stem": {"adapted": 864}, ...}``, in row order."""
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.parameter and row.status != "skipped":
            counts = table.setdefault(row.block, {})
            counts[row.status] = counts.get(row.status, 0) + row.numel
    return table
