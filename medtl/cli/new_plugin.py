"""``medtl plugins new NAME --kind KIND``: the start of a plugin package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.catalog import load_catalog


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called, e.g. liver-ct.")],
    kind: Annotated[str, typer.Option(help="task, network, strategy, shift-metric or transform.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to put medtl-NAME into; without it the current one."),
    ] = None,
) -> None:
    """Write a plugin package that works and passes its tests, to be changed into yours."""
    import shlex

    from medtl.scaffold.package import write_plugin

    folder = write_plugin(name, kind, out or Path(), load_catalog())
    print(f"wrote {folder}:")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"  {path.relative_to(folder)}")
    print("next:")
    print(f"  cd {shlex.quote(str(folder))}")
    print("  pip install -e '.[dev]'")
    print("  pytest")
    print("then make it yours: README.md says what to change first")
