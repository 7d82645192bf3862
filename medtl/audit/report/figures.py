"""Pairs of images that are copies of each other, and images to look at, as sheets.

Axes: I J (K) pixels of a thumbnail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.audit.findings import Finding
from medtl.audit.kinds import NOTE
from medtl.audit.report.result import Audit
from medtl.runtime.figure_style import new_panels, note, save, styled

#: Pairs, and single images, of a sheet.
MOST_PAIRS, MOST_IMAGES = 24, 40

#: Images of one finding.
MOST_OF_ONE = 8

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
    shown: dict[tuple[Path, ...], Finding] = {}
    for one in audit.findings:
        if one.kind in PAIRED and len(one.files) == 2 and set(one.files) <= set(audit.looks):
            shown.setdefault(one.files, one)
    sheet = [
        (file, one.kind if place == 0 else one.seen.partition(":")[0])
        for one in _in_turn(list(shown.values()), MOST_PAIRS)
        for place, file in enumerate(one.files)
    ]
    return _sheet(audit, path, sheet, 2 * ACROSS, "Images that are there twice")


def _images(audit: Audit, path: Path) -> list[Path]:
    """Only images are drawn, so that what is wrong with labels does not show."""
    shown: dict[Path, Finding] = {}
    for one in audit.findings:
        if one.kind not in (*PAIRED, "constant") and one.about.severity != NOTE:
            for file in one.files[:MOST_OF_ONE]:
                if file in audit.looks:
                    shown.setdefault(file, replace(one, files=(file,)))
    chosen = _in_turn(list(shown.values()), MOST_IMAGES)
    sheet = [(one.files[0], one.kind) for one in chosen]
    return _sheet(audit, path, sheet, IMAGES_ACROSS, "Images to look at")


def _in_turn(findings: Sequence[Finding], most: int) -> list[Finding]:
    """The first of each kind, then the second of each, and so on; in the order of the kinds."""
    counts: Counter[str] = Counter()
    turns = []
    for one in findings:
        turns.append((counts[one.kind], one))
        counts[one.kind] += 1
    chosen = [one for _, one in sorted(turns, key=lambda turn: turn[0])[:most]]
    places = {kind: number for number, kind in enumerate(counts)}
    return sorted(chosen, key=lambda one: places[one.kind])


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
        for number, (file, words) in enumerate(sheet):
            extent = panels.extent(*divmod(number, columns))
            image = _shown(audit.looks[file])
            panels.axis.imshow(image, cmap="gray", extent=extent, aspect="auto")
            note(
                panels.axis, f"{_brief(audit.owners.get(file, file.name))}\n{_brief(words)}", extent
            )
        panels.axis.axis((0, figure.get_figwidth(), 0, figure.get_figheight()))
        save(figure, path, title, audit.synthetic)
    return [path]


def _brief(name: str) -> str:
    return name if len(name) <= 21 else f"{name[:8]}...{name[-10:]}"


def _shown(thumbnail: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture as displayed; of a volume the middle slice from below, the front at the top."""
    if thumbnail.ndim == 2:
        return thumbnail
    return np.rot90(thumbnail[:, :, thumbnail.shape[2] // 2])
