"""What the scripts that draw the figures of docs/concepts share: style, and where they write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

#: Where the pages look for figures; nothing in it is kept under version control.
FOLDER = Path(__file__).parent / "_figures"
BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9822b", "#3a9a5b", "#8a8f98"

Draw = Callable[[Path], None]

plt.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 110,
        "savefig.bbox": "tight",
    }
)


def save(path: Path) -> None:
    """Write the current figure, on white, so that it can be read in a dark theme too."""
    plt.savefig(path, facecolor="white")
    plt.close()


def draw_all(figures: dict[str, Draw], folder: Path = FOLDER) -> None:
    """Draw every figure that is not there yet, as ``folder/NAME.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        path = folder / f"{name}.png"
        if not path.is_file():
            draw(path)
            print(path, file=sys.stderr)
