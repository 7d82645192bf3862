"""Pairs of images that are copies of each other, and images to look at, as sheets.

Axes: I J (K) pixels of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.audit.kinds import NOTE
from medtl.audit.report.result import Audit
from medtl.runtime.figure_style import new_panels, note, save, styled

#: Pairs, and single images, of a sheet.
MOST_PAIRS, MOST_IMAGES = 24, 40

#: Pairs beside each other, and single images.
ACROSS, IMAGES_ACROSS = 4, 8

PAIRED = ("leak", "label-conflict", "two-names", "near-duplicate", "exact-duplicate")

_PANEL_INCHES = 1.1


def draw_sheets(audit: Audit, folder: Path) -> list[Path]:
    """Draw the worst pairs and the worst images; none where nothing was found.

    Returns:
        the figures.
    """
    return [*_pairs(audit, folder / "pairs.png"), *_images(audit, folder / "images.png")]


def _pairs(audit: Audit, path: Path) -> list[Path]:
    shown: dict[tuple[Path, ...], str] = {}
    for one in audit.findings:
        if one.kind in PAIRED and len(one.files) == 2:
            shown.setdefault(one.files, one.kind)
    known = [(files, kind) for files, kind in shown.items() if set(files) <= set(audit.looks)]
    sheet = [
        (file, kind if place == 0 else "")
        for files, kind in known[:MOST_PAIRS]
        for place, file in enumerate(files)
    ]
    return _sheet(audit, path, sheet, 2 * ACROSS, "Images that are there twice")


def _images(audit: Audit, path: Path) -> list[Path]:
    shown: dict[Path, str] = {}
    for one in audit.findings:
        if one.kind not in PAIRED and one.about.severity != NOTE:
            for file in one.files:
                if file in audit.looks:
                    shown.setdefault(file, one.kind)
    return _sheet(
        audit, path, list(shown.items())[:MOST_IMAGES], IMAGES_ACROSS, "Images to look at"
    )


def _sheet(
    audit: Audit, path: Path, sheet: Sequence[tuple[Path, str]], across: int, title: str
) -> list[Path]:
    if not sheet:
        return []
    columns = min(across, len(sheet))
    rows = -(-len(sheet) // columns)
    panel = (_PANEL_INCHES, _PANEL_INCHES)
    with styled():
        figure, panels = new_panels(rows, columns, panel, (0.05, 0.45, 0.05))
        for number, (file, kind) in enumerate(sheet):
            extent = panels.extent(*divmod(number, columns))
            image = _shown(audit.looks[file])
            panels.axis.imshow(image, cmap="gray", extent=extent, aspect="auto")
            note(panels.axis, f"{_brief(file.name)}\n{kind}".strip(), extent)
        panels.axis.axis((0, figure.get_figwidth(), 0, figure.get_figheight()))
        save(figure, path, title, audit.synthetic)
    return [path]


def _brief(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:10]}...{name[-11:]}"


def _shown(thumbnail: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture as displayed; of a volume the middle slice from below, the front at the top."""
    if thumbnail.ndim == 2:
        return thumbnail
    return np.rot90(thumbnail[:, :, thumbnail.shape[2] // 2])
