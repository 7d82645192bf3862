"""``medtl doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from medtl.plugins.catalog import load_catalog
from medtl.runtime.doctor import examine


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show versions, devices, precision, memory, disk space and the state of the plugins."""
    machine = examine(load_catalog().plugin_rows())
    if json:
        import json as encoder

        print(encoder.dumps(machine.to_json(), indent=2))
        return
    for table in machine.tables():
        print(table.title)
        for name, value in table.rows:
            print(f"  {name:<20} {value}")
