"""``medtl weights``: look into a file of weights before it is transferred."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from medtl.receipts import Receipt

app = typer.Typer(no_args_is_help=True)


@app.callback()
def weights() -> None:
    """Inspect weights before they are transferred."""


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE|RUN", help="Weights, or a run or stage.")],
    network: Annotated[str, typer.Option(help="Preview the receipt of loading into it.")] = "",
    width: Annotated[int | None, typer.Option(help="Width of that network.")] = None,
    modalities: Annotated[
        str, typer.Option(help="Its input channels, e.g. t1,t2. Default: the file's.")
    ] = "",
    regions: Annotated[str, typer.Option(help="Its outputs. Default: the file's.")] = "",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="TARGET=SOURCE, e.g. t1=t1ce.")
    ] = None,
    init_modalities: Annotated[
        str, typer.Option(help="The file's input channels, where it does not name them.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a file of weights holds and, with --network, what would become of each tensor."""
    from rich.console import Console

    from medtl.catalog import load_catalog
    from medtl.inspection import inspect as look_into

    found = look_into(
        file,
        load_catalog(),
        network=network,
        width=width,
        modalities=modalities,
        regions=regions,
        mapping=mapping or (),
        init_modalities=init_modalities,
    )
    if as_json:
        typer.echo(json.dumps(found.facts, indent=2))
        return
    console = Console()
    _print_facts(console, found.facts)
    if found.receipt is not None:
        _print_receipt(console, network, found.receipt, found.problem)


def _print_facts(console: Console, facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=facts["path"], show_header=False, title_justify="left")
    for key, value in facts.items():
        if key in ("path", "receipt") or value is None:
            continue
        if key == "network":
            value = ", ".join(f"{name} {value[name]}" for name in sorted(value, key=_name_first))
        elif isinstance(value, list):
            value = ", ".join(value) or "not stated"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        table.add_row(key, str(value))
    console.print(table)


def _name_first(key: str) -> tuple[bool, str]:
    return key != "name", key


def _print_receipt(console: Console, network: str, receipt: Receipt, problem: str) -> None:
    from rich.table import Table

    from medtl.receipts import block_shares

    table = Table(title=f"into {network}", title_justify="left")
    for heading in ("block", "parameters", "loaded", "adapted", "random"):
        table.add_column(heading, justify="left" if heading == "block" else "right")
    table.add_column("notes")
    total = 0
    for block, counts in block_shares(receipt.rows).items():
        size = sum(counts.values())
        total += size
        shares = [
            _percent(counts.get(status, 0) / size) for status in ("loaded", "adapted", "random")
        ]
        table.add_row(block, f"{size:,}", *shares, _block_notes(receipt, block))
    table.add_section()
    table.add_row("all", f"{total:,}", *map(_percent, receipt.shares().values()), "sum 100%")
    console.print(table)
    skipped = [row.name for row in receipt.rows if row.status == "skipped"]
    if skipped:
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        console.print(f"skipped, only in the file: {', '.join(skipped[:5])}{more}")
    for note in receipt.notes:
        console.print(f"note: {note}")
    if problem:
        console.print(f"training refuses it without --allow-partial: {problem}", markup=False)


def _block_notes(receipt: Receipt, block: str) -> str:
    """What was done to the block's tensors, each once."""
    notes = [row.note for row in receipt.rows if row.block == block and row.note]
    unique = list(dict.fromkeys(notes))
    more = f"\n({len(unique) - 2} more)" if len(unique) > 2 else ""
    return "\n".join(unique[:2]) + more


def _percent(share: float) -> str:
    return f"{share:.1%}" if share else "-"
