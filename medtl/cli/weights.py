"""``medtl weights``: look into a file of weights before it is transferred."""

from __future__ import annotations

from typing import Annotated

import typer

from medtl.cli.completion import component
from medtl.cli.options import Json
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import print_json
from medtl.transfer.inspect import WeightsFile
from medtl.transfer.inspect import inspect as look_into

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
        str, typer.Option(help="The file's input channels, if it does not name them.")
    ] = "",
    weights_key: Annotated[
        str,
        typer.Option(metavar="KEY", help="Which weights of the file, e.g. teacher or model_ema."),
    ] = "",
    json: Json = False,
) -> None:
    """Show what a file of weights holds and, with --network, the use of each tensor."""
    found = look_into(
        file,
        load_catalog(),
        network=network,
        width=width,
        modalities=modalities,
        regions=regions,
        mapping=mapping or (),
        init_modalities=init_modalities,
        weights_key=weights_key,
    )
    if json:
        print_json(found.facts)
    else:
        _show(found)


def _show(found: WeightsFile) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from medtl.errors import visible

    console = Console(highlight=False, markup=False, emoji=False)
    facts, *receipts = found.tables()
    title = Text(visible(facts.title))
    table = Table(title=title, show_header=False, title_justify="left")
    for row in facts.rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table, *receipts)
    if found.problem:
        problem = visible(found.problem)
        console.print(f"training refuses it without --allow-partial: {problem}")
