"""Figures of saliency maps, activations and filters. Each function writes a PNG.

Axes: C channel, O output channel of a layer, I rows (down) and J columns of a slice as shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medtl.runtime.figure_style import SKY, new_grid, note, outline, pixel_extent, save, styled

Plane = NDArray[np.floating[Any]]

_PANEL_INCHES = 1.7

_CASES_PER_ROW = 4

_CHANNELS = 8

#: Opacity of a map at its maximum.
_OPACITY = 0.65


@dataclass(frozen=True, slots=True)
class CasePanel:
    """The slice of one case: grey values and map (0 to 1), and the mask or why there is none."""

    title: str
    grey_IJ: Plane
    cam_IJ: Plane
    mask_IJ: NDArray[np.bool_] | None = None
    aspect: float = 1.0  #: height of a pixel over its width
    note: str = ""
    height: int = 0  #: of the slice, counted from the feet


def saliency_maps(
    path: Path, panels: Sequence[CasePanel], title: str, *, synthetic: bool
) -> Figure:
    """Draw every case twice: without and with its map, both with the outline of the true mask."""
    columns = min(_CASES_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    size_inches = (columns * _PANEL_INCHES + 0.8, rows * (2 * _PANEL_INCHES + 0.55) + 0.6)
    with styled():
        figure, grid = new_grid(2 * rows, columns, size_inches, pad_inches=0.02)
        for axis in (axis for line in grid for axis in line):
            _bare(axis)
        for number, one in enumerate(panels):
            row, column = divmod(number, columns)
            above, below = grid[2 * row][column], grid[2 * row + 1][column]
            above.set_title(one.title, fontsize=7)
            extent = pixel_extent(one.grey_IJ)
            note(above, one.note, extent)
            for axis in (above, below):
                axis.imshow(one.grey_IJ, cmap="gray", vmin=0, vmax=1, aspect=one.aspect)
                if one.mask_IJ is not None:
                    outline(axis, one.mask_IJ, extent, SKY, 1.0)
            below.imshow(
                one.cam_IJ, cmap="inferno", vmin=0, vmax=1, alpha=_OPACITY * one.cam_IJ**0.5,
                aspect=one.aspect,
            )  # fmt: skip
        if any(one.mask_IJ is not None for one in panels):
            line = Line2D([], [], color=SKY, linewidth=1.2)
            figure.legend([line], ["truth"], loc="outside lower center")
        shares = ScalarMappable(Normalize(0, 1), "inferno")
        every = [axis for line in grid for axis in line]
        figure.colorbar(shares, ax=every, label="map, share of its maximum", shrink=0.6, aspect=30)
        return save(figure, path, title, synthetic)


def activations(
    path: Path,
    inputs: Mapping[str, Plane],
    maps: Mapping[str, Plane],
    title: str,
    *,
    synthetic: bool,
) -> Figure:
    """Draw one image by modality, and the channels of each block that vary most over it.

    Args:
        maps: block -> its output for the image (C, I, J).
    """
    size_inches = (_CHANNELS * 1.05 + 0.9, (len(maps) + 1) * 1.15 + 0.5)
    with styled():
        figure, grid = new_grid(len(maps) + 1, _CHANNELS, size_inches, pad_inches=0.02)
        for axis in (axis for line in grid for axis in line):
            _bare(axis)
        grid[0][0].set_ylabel("input", fontsize=8)
        for axis, (name, plane_IJ) in zip(grid[0], inputs.items(), strict=False):
            axis.imshow(plane_IJ, cmap="gray")
            axis.set_title(name, fontsize=7, pad=1)
        for line, (block, map_CIJ) in zip(grid[1:], maps.items(), strict=True):
            channels, *size = map_CIJ.shape
            line[0].set_ylabel(f"{block}\n{channels} of {size[0]}x{size[1]}", fontsize=7)
            strongest = np.argsort(-map_CIJ.std((1, 2)), kind="stable")[:_CHANNELS]
            for axis, channel in zip(line, strongest, strict=False):
                axis.imshow(map_CIJ[channel], cmap="viridis")
                axis.set_title(f"{channel}", fontsize=6, pad=1)
        return save(figure, path, title, synthetic)


def filters(
    path: Path, weights_OCIJ: Plane, channels: Sequence[str], title: str, *, synthetic: bool
) -> Figure:
    """Draw a first layer's filters, a panel per input channel; red > 0, blue < 0, white 0."""
    count, size = len(weights_OCIJ), weights_OCIJ.shape[2:]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    limit = max(float(np.abs(weights_OCIJ).max()), 1e-12)
    size_inches = (len(channels) * 2.6 + 1.1, 2.6 * rows * size[0] / (columns * size[1]) + 0.9)
    with styled():
        figure, [line] = new_grid(1, len(channels), (max(size_inches[0], 4.4), size_inches[1]))
        for channel, (axis, name) in enumerate(zip(line, channels, strict=True)):
            mosaic = np.full((rows * (size[0] + 1) - 1, columns * (size[1] + 1) - 1), np.nan)
            for number, filter_IJ in enumerate(weights_OCIJ[:, channel]):
                row, column = divmod(number, columns)
                i, j = row * (size[0] + 1), column * (size[1] + 1)
                mosaic[i : i + size[0], j : j + size[1]] = filter_IJ
            axis.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(name)
            axis.set_facecolor("#444444")
            _bare(axis)
        weights = ScalarMappable(Normalize(-limit, limit), "RdBu_r")
        figure.colorbar(weights, ax=line, label="weight")
        return save(figure, path, title, synthetic)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
