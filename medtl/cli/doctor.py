"""``medtl doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

from medtl.cli.options import Json
from medtl.errors import visible
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import print_json
from medtl.runtime.doctor import examine


def doctor(json: Json = False) -> None:
    """Show versions, devices, precision, memory, disk space and the state of the plugins."""
    machine = examine(load_catalog().plugin_rows())
    if json:
        print_json(machine.to_json())
        return
    for table in machine.tables():
        print(table.title)
        for name, value in table.rows:
            print(f"  {visible(name):<20} {visible(value)}")
