"""Generated pages on disk: only what changed is written, what nothing makes any more is removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medtl_docs.commands import command_pages
from medtl_docs.components import component_pages
from medtl_docs.hooks import hooks_page

#: Below docs/, all of it generated.
FOLDERS = ("commands", "components")


def generated_pages() -> dict[str, str]:
    """Path below ``docs/`` -> page."""
    return {**command_pages(), **component_pages(), **hooks_page()}


def write_pages(docs: Path, pages: Mapping[str, str]) -> None:
    for folder in FOLDERS:
        for stale in (docs / folder).rglob("*.md"):
            if stale.relative_to(docs).as_posix() not in pages:
                stale.unlink()
    for name, content in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
