"""``medtl``: names and summaries of the commands are static; a command is imported when it runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from medtl import Component, __version__
from medtl.cli.errors import notice
from medtl.cli.light import LightGroup
from medtl.errors import visible
from medtl.plugins.builtin import COMMANDS
from medtl.plugins.commands import load_command
from medtl.runtime.files import from_home
from medtl.runtime.streams import settle_streams

_DEBUG = "--debug"


#: Former names of options, which still work: command -> former name -> present name.
RENAMED = {
    "train": {"--rate": "--lr"},
    "shift": {"--draws": "--permutations"},
    "evaluate": {"--flips": "--tta"},
    "predict": {"--flips": "--tta"},
}


#: Set by the scripts of ``medtl completion``.
_COMPLETE = "_MEDTL_COMPLETE"


#: ``~/x``, ``--out=~/x``, ``-o~/x``: a shell expands only the first, and none in quotes.
_HOME = re.compile(r"(--[\w-]+=|-\w)?(~.*)", re.DOTALL)


#: What rich may take for markup.
_MARKUP = re.compile(r"\[(?=[a-zA-Z/@#])")


class LazyGroup(LightGroup):
    """Holds a stub for each command; the stub that is invoked is replaced by the real command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.components: dict[str, Component] = {}
        self._add({component.name: component for component in COMMANDS})

    def _add(self, components: dict[str, Component]) -> None:
        for name, component in components.items():
            self.components[name] = component
            self.commands[name] = TyperCommand(name=name, help=component.summary, callback=None)

    def _add_plugin_commands(self) -> None:
        """Their summaries are text: neither markup of rich nor anything a terminal obeys."""
        from medtl.plugins.catalog import load_catalog

        found = load_catalog().commands
        bare = [name.partition(":")[2] for name in found]
        for full_name, component in found.items():
            name = full_name.partition(":")[2]
            # Two plugins may offer the same command: each then goes by its full name.
            shown = name if bare.count(name) == 1 else full_name
            if shown not in self.commands:
                summary = _MARKUP.sub(r"\\\g<0>", visible(component.summary))
                self._add({shown: replace(component, summary=summary)})

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_plugin_commands()
        return super().list_commands(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args[0] not in self.commands:
            self._add_plugin_commands()
        name, _, rest = super().resolve_command(ctx, args)
        # Without a name this is shell completion of something that is no command.
        if not name:
            return name, None, rest
        command = load_command(self.components[name], name)
        _show_flags_bare(command, ctx)
        return name, command, [_present(word, name, ctx) for word in rest]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _show_flags_bare(self, ctx)
        super().format_help(ctx, formatter)


def _present(word: str, command: str, ctx: Any) -> str:
    """The word with the present name of its option; gives notice except in shell completion."""
    former, equals, value = word.partition("=")
    present = RENAMED.get(command, {}).get(former)
    if present is None:
        return word
    if not ctx.resilient_parsing:
        notice(f"{former} is now {present}")
    return f"{present}{equals}{value}"


def _show_flags_bare(command: Any, ctx: Any) -> None:
    """Typer's help has ``<bool>`` behind a flag, as if it took a value."""
    for option in command.get_params(ctx):
        if getattr(option, "is_flag", False) and option.metavar is None:
            option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _show_flags_bare(inner, ctx)


# Typer's two options for shell completion would import pydantic in every command.
app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    help="Does transfer learning help on my medical images, and how?",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"medtl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Show the traceback of errors (or set MEDTL_DEBUG=1).")
    ] = False,
) -> None:
    """The options of ``medtl`` itself; :func:`prepare` has taken ``--debug`` out already."""


def prepare() -> tuple[Callable[[], object], bool]:
    """The command that the words of the command line name, and whether they hold --debug."""
    settle_streams()
    _print_anything()
    # Figures become files; matplotlib could not even be imported with a wrong one.
    os.environ.pop("MPLBACKEND", None)
    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()  # Typer does that only where its own options are
    arguments, debug = _without_debug([_from_home(word) for word in sys.argv[1:]])
    words = arguments or ["--help"]
    command = get_command(app)
    return partial(command.main, words, prog_name="medtl", standalone_mode=False), debug


def _print_anything() -> None:
    """What a terminal's encoding does not have is shown as an escape; nothing fails on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _from_home(word: str) -> str:
    """A path below a home folder, alone or behind an option, written out for every command."""
    found = _HOME.fullmatch(word)
    return (found[1] or "") + str(from_home(found[2])) if found else word


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """``--debug`` works anywhere on the line, before or after the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != _DEBUG] + arguments[end:]
    asked = len(kept) < len(arguments) or os.environ.get("MEDTL_DEBUG", "0") not in ("", "0")
    return kept, asked
