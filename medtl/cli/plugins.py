"""``medtl plugins``: the plugins found, why one is not in use, and the start of a new one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medtl.catalog import load_catalog
from medtl.cli.light import LightCommand, LightGroup
from medtl.cli.tables import print_table

app = typer.Typer(cls=LightGroup, add_completion=False)


@app.callback()
def plugins() -> None:
    """List the plugins found and their state, or start a new one."""


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


@app.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(help="What it is called, e.g. liver-ct.")],
    kind: Annotated[str, typer.Option(help="task, network, strategy, shift-metric or transform.")],
    out: Annotated[
        Path, typer.Option(help="Folder to put medtl-NAME into.", show_default="here")
    ] = Path(),
) -> None:
    """Write a plugin package that works, with tests that pass, to be changed into yours."""
    import shlex

    from medtl.scaffold.package import write_plugin

    folder = write_plugin(name, kind, out, load_catalog())
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    print(f"wrote {folder}:")
    for path in listed:
        print(f"  {path.relative_to(folder)}")
    print("next:")
    print(f"  cd {shlex.quote(str(folder))}")
    print("  pip install -e '.[dev]'")
    print("  pytest")
    print('then see "What to change first" in its README.md')
