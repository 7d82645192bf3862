"""A command component -> the command that Typer runs."""

from __future__ import annotations

from typing import Any

import typer
from typer.main import get_command, get_group

from medtl import Component


def load_command(component: Component, name: str = "") -> Any:
    """Import what the component names: a function, or a ``typer.Typer`` for a group of commands.

    ``name``: what it is called, if not as the component is.
    """
    target = component.load()
    if isinstance(target, typer.Typer):
        command: Any = get_group(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(name or component.name)(target)
        command = get_command(single)
    command.name = name or component.name
    command.help = command.help or component.summary
    return command
