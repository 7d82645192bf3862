"""A receipt of transferred weights as a table, block by block."""

from __future__ import annotations

from medtl.runtime.table import Table
from medtl.transfer.receipt import Receipt, block_shares

STATUSES = ("loaded", "adapted", "random")


#: Notes per block, and names of skipped tensors.
MOST_NOTES, MOST_SKIPPED = 2, 5


def receipt_table(network: str, receipt: Receipt) -> Table:
    """Of each block, how many parameters were loaded, adapted and left random."""
    rows = []
    total = 0
    for block, counts in block_shares(receipt.rows).items():
        size = sum(counts.values())
        total += size
        shares = [_percent(counts.get(status, 0) / size) for status in STATUSES]
        rows.append((block, f"{size:,}", *shares, _block_notes(receipt, block)))
    shares = [_percent(share) for share in receipt.shares().values()]
    rows.append(("all", f"{total:,}", *shares, "sum 100%"))
    columns = ("block", "parameters", *STATUSES, "notes")
    return Table(f"into {network}", columns, tuple(rows), _notes(receipt))


def _notes(receipt: Receipt) -> tuple[str, ...]:
    skipped = [row.name for row in receipt.rows if row.status == "skipped"]
    if not skipped:
        return receipt.notes
    left = len(skipped) - MOST_SKIPPED
    more = f" and {left} more" if left > 0 else ""
    told = f"skipped, only in the file: {', '.join(skipped[:MOST_SKIPPED])}{more}"
    return told, *receipt.notes


def _block_notes(receipt: Receipt, block: str) -> str:
    """What was done to the block's tensors, each once."""
    notes = [row.note for row in receipt.rows if row.block == block and row.note]
    unique = list(dict.fromkeys(notes))
    left = len(unique) - MOST_NOTES
    more = f" ({left} more)" if left > 0 else ""
    return "; ".join(unique[:MOST_NOTES]) + more


def _percent(share: float) -> str:
    return f"{share:.1%}" if share else "-"
