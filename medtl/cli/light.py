"""Commands that start fast: Typer imports pydantic to convert any value but True and False."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _without_conversion(help_option: Any) -> Any:
    """Typer leaves an absent ``--help`` at None, and would convert that."""
    if help_option is not None:
        help_option.default = False
    return help_option


class LightCommand(TyperCommand):
    """A command whose options are all flags, and which has no arguments."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_conversion(super().get_help_option(ctx))


class LightGroup(TyperGroup):
    """A group whose own options are all flags."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_conversion(super().get_help_option(ctx))
