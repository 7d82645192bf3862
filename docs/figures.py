"""The figures of the pages, drawn anew where what draws them, or medtl itself, has changed.

Each ``docs/make_*.py`` that draws for the build holds ``FIGURES``: name -> a function that writes a
PNG to the path it is given, ``docs/_figures/NAME.png``.
"""

from __future__ import annotations

import hashlib
import runpy
from collections.abc import Iterable
from pathlib import Path

FOLDER = "_figures"


def draw_figures(docs: Path) -> None:
    folder = docs / FOLDER
    folder.mkdir(exist_ok=True)
    shared = [*sorted((docs.parent / "medtl").rglob("*.py")), *sorted(docs.glob("figure_*.py"))]
    for script in sorted(docs.glob("make_*.py")):
        digest = _digest([*shared, script])
        for name, draw in runpy.run_path(str(script)).get("FIGURES", {}).items():
            path, mark = folder / f"{name}.png", folder / f"{name}.sha256"
            if not path.exists() or not mark.exists() or mark.read_text() != digest:
                draw(path)
                mark.write_text(digest)


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()
