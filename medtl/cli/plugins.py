"""``medtl plugins list``: the plugins found, and why one is not in use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from medtl.catalog import load_catalog
from medtl.cli.light import LightCommand, LightGroup
from medtl.cli.tables import print_table

app = typer.Typer(cls=LightGroup, add_completion=False)


@app.callback()
def plugins() -> None:
    """List the plugins found and their state."""


@app.command("list", cls=LightCommand)
def list_plugins(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the plugins found: ok, broken or disabled, and why."""
    rows = load_catalog().plugins
    if json:
        import json as encoder

        print(encoder.dumps([asdict(row) for row in rows], indent=2))
        return
    print_table(
        ("PLUGIN", "STATUS", "COMPONENTS", "FROM", "REASON"),
        [
            (
                row.name,
                row.status,
                str(row.components),
                f"{row.distribution} {row.version}".strip(),
                row.reason,
            )
            for row in rows
        ],
    )
