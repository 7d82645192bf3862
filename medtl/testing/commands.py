"""What a command must keep: medtl can show its help."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from medtl.plugins.commands import load_command
from medtl.testing.check import CheckFailed, Tried, require


def help_is_shown(tried: Tried) -> None:
    """``medtl NAME --help`` works, says what the command does, and ends with 0."""
    text, code = _help(tried)
    require(code == 0, f"`medtl {tried.name} --help` ends with {code}: {_last(text)}")
    command = load_command(tried.component)
    require(command.help, "it has no help; give the function a docstring")
    require("Usage" in text, f"`medtl {tried.name} --help` shows no usage; does it print nothing?")


def every_option_says_what_it_does(tried: Tried) -> None:
    """Options and subcommands have a line of help each."""
    for path, command in _each(tried.name, load_command(tried.component)):
        require(command.help, f"`medtl {path}` has no help; give its function a docstring")
        for parameter in command.params:
            silent = not getattr(parameter, "help", None) and not getattr(parameter, "hidden", 0)
            spelt = "/".join(parameter.opts)
            documented = not silent or parameter.name == "help"
            require(documented, f"`medtl {path}`: {spelt} says nothing; add help=")


def _each(path: str, command: Any) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    found = [(path, command)]
    for name, sub in inner.items():
        found += _each(f"{path} {name}", sub)
    return found


def _help(tried: Tried) -> tuple[str, int]:
    """What the command prints when asked for help, and its exit code."""
    heard = io.StringIO()
    with redirect_stdout(heard), redirect_stderr(heard):
        try:
            code = load_command(tried.component).main(
                ["--help"], prog_name=f"medtl {tried.name}", standalone_mode=False
            )
        except SystemExit as stop:
            code = stop.code if stop.code is None or isinstance(stop.code, int) else 1
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise CheckFailed(f"`medtl {tried.name} --help` raised {problem}") from error
    return heard.getvalue(), code if isinstance(code, int) else 0


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
