"""The style of all figures: palette, layout, and PNG files that are reproducible byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from threading import RLock
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from medtl.errors import Interrupted, visible
from medtl.runtime.files import replacing
from medtl.runtime.shown import SYNTHETIC

# Okabe and Ito (2008): distinct with any colour vision.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"


PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#6E6E6E"


SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)


_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 160,
    "text.parse_math": False,  # a name such as x$1$ is no formula
    "text.usetex": False,
}


#: Width of a title's letters, slightly above the average.
_LETTER_INCHES = 0.088


_DRAWING = RLock()


@contextmanager
def attempted(figure: str, warn: Callable[[str], None]) -> Iterator[None]:
    """Within it a figure is drawn; where that fails, ``warn`` says so, and the command goes on."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as problem:
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())
        warn(f"{figure} is not drawn ({reason}); scores and other files are complete")


@contextmanager
def styled() -> Iterator[None]:
    """The context in which a figure is built and saved; restores matplotlib's settings.

    The settings belong to the process, so one thread draws at a time.
    """
    with _DRAWING, rc_context(_STYLE):
        yield


def new_grid(
    rows: int,
    columns: int,
    size_inches: tuple[float, float],
    *,
    pad_inches: float = 0.04,
    **subplots: Any,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure without pyplot, laid out so that nothing overlaps."""
    layout = ConstrainedLayoutEngine(w_pad=pad_inches, h_pad=pad_inches, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size_inches, layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots).tolist()


def panels(
    rows: int,
    columns: int,
    panel_inches: tuple[float, float],
    margins_inches: tuple[float, float, float],
    gap_inches: float = 0.04,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels for images, placed by hand: laying out many takes seconds.

    Args:
        panel_inches: width and height of each.
        margins_inches: left, top and bottom; that on the right is the gap.
    """
    (across, down), (left, top, bottom) = panel_inches, margins_inches
    width = left + columns * (across + gap_inches)
    height = top + bottom + rows * (down + gap_inches)
    figure = Figure(figsize=(width, height))
    grid = [
        [
            figure.add_axes(
                (
                    (left + column * (across + gap_inches)) / width,
                    (bottom + (rows - 1 - row) * (down + gap_inches)) / height,
                    across / width,
                    down / height,
                )
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return figure, grid


def title_lines(width_inches: float, title: str, synthetic: bool) -> list[str]:
    """The lines of a figure's title, which says if the data are synthetic."""
    across = int(width_inches / _LETTER_INCHES)
    given = [*visible(title, keep="\n").split("\n"), *([SYNTHETIC] if synthetic else [])]
    return [line for each in given for line in wrap(each, across)]


def save(figure: Figure, path: Path, title: str, synthetic: bool) -> Figure:
    """Write a PNG atomically; title and metadata say if the data are synthetic."""
    metadata: dict[str, Any] = {"Software": None, "Title": visible(title, keep="\n")}
    if synthetic:
        metadata["Description"] = SYNTHETIC
    lines = title_lines(figure.get_figwidth(), title, synthetic)
    figure.suptitle("\n".join(lines), fontsize=10, fontweight="bold")
    _make_visible(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata=metadata)
    return figure


def _make_visible(figure: Figure) -> None:
    """No font draws what :func:`medtl.errors.visible` escapes."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), FixedLocator):
                given = [label.get_text() for label in axis.get_ticklabels()]
                shown = list(map(visible, given))
                if shown != given:
                    axis.set_ticklabels(shown)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        given_text = text.get_text()
        if (seen := visible(given_text, keep="\n")) != given_text:
            text.set_text(seen)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour of the palette for each name, in order."""
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}


def outline(axis: Axes, mask_JI: NDArray[np.bool_], colour: str, width: float) -> None:
    """The border of a mask (rows, columns) over the image that ``axis`` shows."""
    if mask_JI.any():
        view = axis.axis()
        lines = axis.contour(
            np.pad(mask_JI, 1), [0.5], colors=colour, linewidths=width,
            extent=(-1, mask_JI.shape[1], -1, mask_JI.shape[0]),
        )  # fmt: skip
        lines.set_path_effects([withStroke(linewidth=width + 0.8, foreground="black", alpha=0.5)])
        axis.axis(view)  # a contour enlarges the view


def note(axis: Axes, text: str) -> None:
    """Text at the foot of the image that ``axis`` shows."""
    shade = [withStroke(linewidth=1.5, foreground="black")]
    axis.text(
        0.5, 0.02, text, transform=axis.transAxes, ha="center", va="bottom", fontsize=6,
        color="white", path_effects=shade,
    )  # fmt: skip
