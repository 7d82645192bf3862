"""Words and tables as MyST Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")


def text(words: str) -> str:
    """Plain words, on one line: what Markdown would read as markup is escaped, options are code."""
    parts = _OPTION.split(" ".join(words.split()))
    return "".join(
        code(part) if number % 2 else _SPECIAL.sub(r"\\\1", part)
        for number, part in enumerate(parts)
    )


def code(words: object) -> str:
    """Literal text, in tables too."""
    return f"`{words}`".replace("|", r"\|")


def link(words: str, target: str) -> str:
    return f"[{words}]({target})"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """A table of cells that are Markdown already; empty text without rows.

    ``right``: so many of the last columns hold numbers.
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    head = [
        f"| {' | '.join(columns)} |",
        "|" + " --- |" * (len(columns) - right) + " ---: |" * right,
    ]
    return "\n".join([*head, *lines]) if lines else ""


def fenced(language: str, body: str) -> str:
    return f"```{language}\n{body.rstrip()}\n```"


def documented(directive: str, target: str, *options: str) -> str:
    """An autodoc directive for ``package.module.name``."""
    lines = [f".. {directive}:: {target}", *(f"   :{option}:" for option in options)]
    return fenced("{eval-rst}", "\n".join(lines))


def toctree(entries: Iterable[str], *options: str) -> str:
    lines = [*(f":{option}:" for option in options), "", *entries]
    return fenced("{toctree}", "\n".join(lines))


def page(title: str, *parts: str) -> str:
    """A page; empty parts are left out."""
    return "\n\n".join([f"# {title}", *filter(None, parts)]) + "\n"
