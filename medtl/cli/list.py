"""``medtl list [KIND]``: the components that are installed.

Each kind is a command and no argument: Typer would import pydantic to read one.
"""

from __future__ import annotations

from collections.abc import Iterable

import typer

from medtl.cli.errors import notice
from medtl.cli.light import LightCommand, LightGroup
from medtl.cli.options import Json
from medtl.plugins.catalog import load_catalog
from medtl.plugins.loader import COMPONENT_KINDS
from medtl.runtime.console import print_json
from medtl.runtime.table import print_table

app = typer.Typer(
    cls=LightGroup, add_completion=False, invoke_without_command=True, subcommand_metavar="[KIND]"
)


@app.callback()
def list_all(ctx: typer.Context, json: Json = False) -> None:
    """List tasks, networks, strategies and other components by name."""
    ctx.obj = json
    if ctx.invoked_subcommand is None:
        _show(COMPONENT_KINDS, json)


def _add_command(kind: str) -> None:
    name = kind.replace("_", "-")

    @app.command(name, cls=LightCommand, help=f"List {name.replace('-', ' ')}.")
    def list_kind(ctx: typer.Context, json: Json = False) -> None:
        _show([kind], json or ctx.obj)


for _kind in COMPONENT_KINDS:
    _add_command(_kind)


def _show(kinds: Iterable[str], json: bool) -> None:
    catalog = load_catalog()
    for row in catalog.plugins:
        if row.status == "broken":
            notice(f"plugin {row.name} is not in use: {row.reason}")
    registries = catalog.registries()
    rows = {kind: registries[kind].rows() for kind in kinds}
    if json:
        print_json(rows)
        return
    filled = [(kind, listed) for kind, listed in rows.items() if listed]
    if not filled:
        print("none installed")
    for number, (kind, listed) in enumerate(filled):
        if number:
            print()
        title = kind.replace("_", " ").upper()
        columns = [[row["name"], row["plugin"], row["summary"]] for row in listed]
        print_table((title, "PLUGIN", ""), columns)
