"""``medtl doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from medtl.plugins.catalog import load_catalog
from medtl.runtime.doctor import examine, shown


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show versions, devices, precision, memory, disk space and the state of the plugins."""
    report = examine(load_catalog().plugin_rows())
    if json:
        import json as encoder

        print(encoder.dumps(report, indent=2))
        return
    for section, content in report.items():
        print(section.replace("_", " "))
        for name, value in content.items():
            print(f"  {name:<20} {shown(value)}")
