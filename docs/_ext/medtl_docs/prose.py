"""Links and tables of contents of Markdown pages, without building them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from posixpath import normpath

_CODE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_TOCTREE = re.compile(r"^(`{3,}|:{3,})\{toctree\}\n(.*?)^\1", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)


def written_pages(docs: Path) -> dict[str, str]:
    """Path below ``docs/`` -> text of what is there, built folders left out."""
    paths = (path.relative_to(docs) for path in docs.rglob("*.md"))
    return {
        path.as_posix(): (docs / path).read_text(encoding="utf-8")
        for path in paths
        if not path.parts[0].startswith(("_", "examples"))
    }


def links_of(text: str) -> list[str]:
    """Targets of links and images that point into the project."""
    found: list[str] = _LINK.findall(_CODE.sub("", text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def resolved(page: str, link: str) -> str:
    """What a link of a page points to, below where the page's own path starts."""
    return normpath((PurePosixPath(page).parent / link).as_posix())


def anchors_of(text: str) -> set[str]:
    """The headings as they are linked to: lower case, dashes for spaces, no punctuation."""
    headings = _HEADING.findall(_FENCED.sub("", text))
    plain = (re.sub(r"[`*\\]|\]\([^)]*\)|\[", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def listed_pages(pages: Mapping[str, str]) -> set[str]:
    """What the tables of contents of all pages list."""
    return {found for name, text in pages.items() for found in _listed(name, text, pages)}


def _listed(name: str, text: str, pages: Mapping[str, str]) -> Iterator[str]:
    folder = PurePosixPath(name).parent
    for _, body in _TOCTREE.findall(text):
        for entry in body.splitlines():
            if entry.strip() and not entry.startswith(":"):
                pattern = normpath((folder / f"{entry.strip()}.md").as_posix())
                yield from (page for page in pages if fnmatchcase(page, pattern))
