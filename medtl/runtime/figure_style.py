"""The style of all figures: palette, layout, and PNG files that are reproducible byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from threading import RLock
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
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


#: Left, right, bottom and top of an image, in the units of its axes.
Extent = tuple[float, float, float, float]


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
    "figure.dpi": 160,
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


@dataclass(frozen=True, slots=True)
class Panels:
    """Equal panels for images within one set of axes, in inches: many axes take seconds.

    Attributes:
        panel_inches: width and height of each.
        margins_inches: left, top and bottom; that on the right is the gap.
    """

    axis: Axes
    rows: int
    panel_inches: tuple[float, float]
    margins_inches: tuple[float, float, float]
    gap_inches: float

    def extent(self, row: int, column: int) -> Extent:
        """Left, right, bottom and top of a panel."""
        (across, down), (before, _, below) = self.panel_inches, self.margins_inches
        left = before + column * (across + self.gap_inches)
        bottom = below + (self.rows - 1 - row) * (down + self.gap_inches)
        return left, left + across, bottom, bottom + down


def new_panels(
    rows: int,
    columns: int,
    panel_inches: tuple[float, float],
    margins_inches: tuple[float, float, float],
    gap_inches: float = 0.04,
) -> tuple[Figure, Panels]:
    """A figure that is as large as its panels and their margins."""
    (across, down), (left, top, bottom) = panel_inches, margins_inches
    width = left + columns * (across + gap_inches)
    height = top + bottom + rows * (down + gap_inches)
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axis.set_axis_off()
    return figure, Panels(axis, rows, panel_inches, margins_inches, gap_inches)


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
    _lay_out(figure)
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
    for text in _texts(figure):
        given_text = text.get_text()
        if (seen := visible(given_text, keep="\n")) != given_text:
            text.set_text(seen)


def _texts(artist: Artist) -> Iterator[Text]:
    """All texts but the labels of ticks, which are only made when the figure is drawn."""
    if isinstance(artist, Text):
        yield artist
    children = [artist.label] if isinstance(artist, Axis) else artist.get_children()
    for child in children:
        yield from _texts(child)


def _lay_out(figure: Figure) -> None:
    """Give all parts their place; saving alone would draw the figure twice for it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour of the palette for each name, in order."""
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}


def pixel_extent(image_JI: NDArray[Any]) -> Extent:
    """That of an image (rows, columns) in axes of its own: rows run down."""
    rows, columns = image_JI.shape
    return -0.5, columns - 0.5, rows - 0.5, -0.5


def outline(
    axis: Axes, mask_JI: NDArray[np.bool_], extent: Extent, colour: str, width: float
) -> None:
    """The border of a mask (rows, columns) over the image that ``axis`` shows at ``extent``."""
    if mask_JI.any():
        view, (left, right, bottom, top) = axis.axis(), extent
        across = (right - left) / mask_JI.shape[1] / 2  # half a pixel
        down = (top - bottom) / mask_JI.shape[0] / 2
        lines = axis.contour(
            np.pad(mask_JI, 1), [0.5], colors=colour, linewidths=width,
            extent=(left - across, right + across, top + down, bottom - down),
        )  # fmt: skip
        lines.set_path_effects([withStroke(linewidth=width + 0.8, foreground="black", alpha=0.5)])
        axis.axis(view)  # a contour enlarges the view


def note(axis: Axes, text: str, extent: Extent) -> None:
    """Text at the foot of the image that ``axis`` shows at ``extent``."""
    if text:
        left, right, bottom, top = extent
        shade = [withStroke(linewidth=1.5, foreground="black")]
        axis.text(
            (left + right) / 2, bottom + 0.02 * (top - bottom), text, ha="center", va="bottom",
            fontsize=6, color="white", path_effects=shade,
        )  # fmt: skip
