"""The page of all hooks: signature, meaning, and which bundled plugins use each, and where."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medtl.plugins import hookspecs
from medtl_docs.markdown import code, documented, fenced, link, page, table

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Use:
    """A plugin's implementation of a hook: ``path`` below the root, first line and source."""

    hook: str
    path: str
    line: int
    source: str


def hook_names() -> list[str]:
    """In the order of the contract."""
    return [name for name in vars(hookspecs) if name.startswith("medtl_")]


def signature(hook: str) -> str:
    """As it is to be written, with full names: ``medtl_tasks() -> list[medtl.Component]``."""
    return f"{hook}{inspect.signature(getattr(hookspecs, hook), eval_str=True)}"


def bundled_uses() -> list[Use]:
    """Read from the sources, the core's first."""
    places = [ROOT / "medtl" / "plugins" / "builtin.py"]
    places += sorted(ROOT.glob("plugins/*/medtl_*/plugin.py"))
    return [use for place in places for use in uses_in(place)]


def uses_in(place: Path) -> Iterator[Use]:
    """The functions of a file that are marked as hooks."""
    source = place.read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("medtl_"):
            first = min(node.lineno, *(mark.lineno for mark in node.decorator_list))
            lines = source.splitlines()[first - 1 : node.end_lineno]
            path = place.relative_to(ROOT).as_posix()
            yield Use(node.name, path, node.lineno, "\n".join(lines))


def hooks_page() -> dict[str, str]:
    uses = bundled_uses()
    return {
        "hooks.md": page(
            "Hooks",
            documented("automodule", "medtl.plugins.hookspecs"),
            *(part for hook in hook_names() for part in _hook(hook, uses)),
        )
    }


def _hook(hook: str, uses: list[Use]) -> Iterator[str]:
    own = [use for use in uses if use.hook == hook]
    kind = hook.removeprefix("medtl_").replace("_", "-")
    offered = "commands/index.md" if kind == "commands" else f"components/{kind}/index.md"
    yield f"## {hook}"
    words = textwrap.indent(inspect.getdoc(getattr(hookspecs, hook)) or "", "   ")
    yield fenced(
        "{eval-rst}", f".. py:function:: medtl.plugins.hookspecs.{signature(hook)}\n\n{words}"
    )
    yield f"What is offered by it: {link(kind.replace('-', ' '), offered)}."
    yield table(("used in", "line"), [(code(use.path), str(use.line)) for use in own])
    if own:
        shortest = min(own, key=lambda use: len(use.source))
        yield f"For example in {code(shortest.path)}:"
        yield fenced("python", _opening(shortest.source))


def _opening(source: str) -> str:
    """The function with the first of the components it lists, and dots for the others."""
    (function,) = ast.parse(source).body
    (returned,) = (node for node in ast.walk(function) if isinstance(node, ast.Return))
    if not isinstance(returned.value, ast.List) or len(returned.value.elts) < 2:
        return source
    first = returned.value.elts[0].end_lineno
    return "\n".join([*source.splitlines()[:first], "        ...,", "    ]"])
