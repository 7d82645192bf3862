"""Every link inside the built pages leads somewhere: python docs/check_links.py docs/_build/html"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Written by Sphinx for its own scripts, not for readers.
SKIPPED = ("_static", "_sources")


class Page(HTMLParser):
    """Where a page links to, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name in ("id", "name"):
                self.anchors.add(value)
            elif value is not None and name in ("href", "src"):
                self.links.add(value)


def broken_links(root: Path) -> list[str]:
    """``page: link`` for every local one that leads nowhere, in order."""
    paths = [p for p in root.rglob("*.html") if p.relative_to(root).parts[0] not in SKIPPED]
    pages = {path.resolve(): Page(path) for path in paths}
    return sorted(
        f"{path.relative_to(root.resolve())}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not _leads_somewhere(link, path, pages)
    )


def _leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True  # not ours to check: there is no network
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if target not in pages:
        return target.is_file()
    return unquote(parts.fragment) in pages[target].anchors


def main() -> None:
    root = Path(sys.argv[1])
    broken = broken_links(root)
    print("\n".join(broken) or f"all links inside {root} lead somewhere")
    sys.exit(bool(broken) or not any(root.glob("index.html")))


if __name__ == "__main__":
    main()
