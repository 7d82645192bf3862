"""``medtl weights``: look into a file of weights before it is transferred."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtl.cli.completion import component

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)


@app.callback()
def weights() -> None:
    """Inspect weights before they are transferred."""


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE|RUN", help="Weights, or a run or stage.")],
    network: Annotated[
        str,
        typer.Option(
            help="Preview the receipt of loading into it.", autocompletion=component("networks")
        ),
    ] = "",
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

    from medtl.plugins.catalog import load_catalog
    from medtl.transfer.inspect import inspect as look_into

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
        console.print(*found.receipt.tables())
    if found.problem:
        problem = f"training refuses it without --allow-partial: {found.problem}"
        console.print(problem, markup=False)


def _print_facts(console: Console, facts: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=facts["path"], show_header=False, title_justify="left")
    for key, value in facts.items():
        if key in ("path", "receipt") or value is None:
            continue
        if key == "network":
            names = sorted((name for name in value if value[name] != {}), key=_name_first)
            value = ", ".join(f"{name} {value[name]}" for name in names)
        elif key == "seen":
            key, value = "trained on", f"{value:,} image{'s' if value != 1 else ''}"
        elif isinstance(value, list):
            value = ", ".join(value) or "not stated"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        table.add_row(key, str(value))
    console.print(table)


def _name_first(key: str) -> tuple[bool, str]:
    return key != "name", key
