"""A figure of one case: slices of its modalities, and truth and prediction of each region.

Axes: C modality, L region, I J K voxels; after :func:`to_lps` I runs to the left, J to the back
and K up, the radiological display.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medtl.data.io.geometry import orient
from medtl.data.io.grids import bounding_box
from medtl.evaluation.lesions import Mask
from medtl.runtime.figure_style import (
    ORANGE,
    SKY,
    Extent,
    Panels,
    new_panels,
    note,
    outline,
    save,
    styled,
    title_lines,
)

#: Rows of a picture run down and columns to the right, so it is displayed as it is.
PICTURE_AXES = "PLS"


_AXES = ("LR", "PA", "SI")


_LINES = {"truth": (SKY, 1.7), "prediction": (ORANGE, 0.9)}


_PANEL_INCHES = 1.55


#: Room for the slices' numbers, a line of the title, and the legend.
_LABEL_INCHES, _LINE_INCHES, _LEGEND_INCHES = 0.3, 0.17, 0.3


#: Between a panel and the name of its row or column.
_GAP_INCHES = 0.06


_MARGIN = 4  # voxels around the head


#: Slices below, at and above the largest: where the tumour's volume reaches these shares.
_SHARES = (0.2, 0.8)


def montage(
    path: Path,
    image_CIJK: NDArray[Any],
    modalities: Sequence[str],
    truth_LIJK: NDArray[Any],
    prediction_LIJK: NDArray[Any],
    regions: Sequence[str],
    title: str,
    spacing_mm: Sequence[float],
    *,
    axes: str = "LPS",
    synthetic: bool,
) -> Figure:
    """Three slices, the middle one with the largest tumour area; columns: modalities, then regions.

    Each region is drawn on the modality that shows it best.

    Args:
        axes: the directions of the array axes I, J and K, as of ``nibabel.aff2axcodes(affine)``.
    """
    image_CIJK = to_lps(np.asarray(image_CIJK, dtype=np.float32), axes)
    truth_LIJK = to_lps(np.asarray(truth_LIJK, dtype=bool), axes)
    prediction_LIJK = to_lps(np.asarray(prediction_LIJK, dtype=bool), axes)
    spacing_mm = lps_order(spacing_mm, axes)
    head_CIJK = np.stack([image_IJK != image_IJK.flat[0] for image_IJK in image_CIJK])
    tumour_LIJK = truth_LIJK if truth_LIJK.any() else prediction_LIJK
    shown_IJK = _union(tumour_LIJK if tumour_LIJK.any() else head_CIJK)
    slices, depth = _slices(shown_IJK), shown_IJK.shape[2]
    view = (slice(None), *_plane_box(_union(head_CIJK) | shown_IJK), slices)
    image_CIJK, head_CIJK = image_CIJK[view], head_CIJK[view]
    truth_LIJK, prediction_LIJK = truth_LIJK[view], prediction_LIJK[view]
    best = [_clearest(image_CIJK, head_CIJK, truth_IJK) for truth_IJK in truth_LIJK]
    grey_CIJK = np.stack([_window(*pair) for pair in zip(image_CIJK, head_CIJK, strict=True)])

    columns = len(modalities) + len(regions)
    width, height = image_CIJK.shape[1:3]
    aspect = spacing_mm[1] / spacing_mm[0]
    panel_inches = _PANEL_INCHES, _PANEL_INCHES * aspect * height / width
    lines = title_lines(columns * _PANEL_INCHES, title, synthetic)
    margins_inches = _LABEL_INCHES, _LINE_INCHES * (len(lines) + 2), _LEGEND_INCHES
    with styled():
        figure, panels = new_panels(len(slices), columns, panel_inches, margins_inches)
        for row, k in enumerate(slices):
            for column, channel in enumerate([*range(len(modalities)), *best]):
                panels.axis.imshow(
                    grey_CIJK[channel, ..., row].T, cmap="gray", vmin=0, vmax=1, aspect="auto",
                    extent=panels.extent(row, column),
                )  # fmt: skip
            for region, name in enumerate(regions):
                pair = truth_LIJK[region, ..., row].T, prediction_LIJK[region, ..., row].T
                extent = panels.extent(row, len(modalities) + region)
                for mask_JI, line in zip(pair, _LINES.values(), strict=True):
                    outline(panels.axis, mask_JI, extent, *line)
                _say_absent(panels.axis, extent, name, *pair)
            if depth > 1:
                _label(panels, row, f"slice {native_slice(k, depth, axes)}")
        names = [f"{r} on {modalities[c]}" for r, c in zip(regions, best, strict=True)]
        _head(panels, [*modalities, *names])
        drawn = zip(_LINES, (truth_LIJK, prediction_LIJK), strict=True)
        handles = {
            name: Line2D([], [], color=_LINES[name][0], linewidth=_LINES[name][1])
            for name, mask_LIJK in drawn
            if mask_LIJK.any()
        }
        if handles:
            figure.legend(handles.values(), list(handles), loc="lower center", ncols=2)
        return save(figure, path, title, synthetic)


def _label(panels: Panels, row: int, name: str) -> None:
    """The name of a row, on its left."""
    left, _, bottom, top = panels.extent(row, 0)
    place = left - _GAP_INCHES, (bottom + top) / 2
    panels.axis.text(*place, name, rotation=90, ha="right", va="center", fontsize=8)


def _head(panels: Panels, names: Sequence[str]) -> None:
    """The names of the columns, above them."""
    for column, name in enumerate(names):
        left, right, _, top = panels.extent(0, column)
        panels.axis.text((left + right) / 2, top + _GAP_INCHES, name, ha="center", va="bottom")


def _say_absent(
    axis: Axes, extent: Extent, region: str, truth_JI: Mask, prediction_JI: Mask
) -> None:
    """Note on a panel that truth or prediction has no voxel in it."""
    lines = [] if truth_JI.any() else [f"no {region} in the truth"]
    lines += [] if prediction_JI.any() else ["none predicted"]
    note(axis, "\n".join(lines), extent)


def _union(mask_xIJK: Mask) -> Mask:
    return np.asarray(mask_xIJK.any(axis=0))


def lps_order(spacing_mm: Sequence[float], axes: str) -> list[float]:
    """The spacing of what :func:`to_lps` returns."""
    return [spacing_mm[_source_axis(pair, axes)] for pair in _AXES]


def _source_axis(pair: str, axes: Sequence[str]) -> int:
    return next(index for index, code in enumerate(axes) if code in pair)


def to_lps(array_xIJK: NDArray[Any], axes: Sequence[str]) -> NDArray[Any]:
    """An array whose last three axes run to ``axes`` -> to the left, to the back and up."""
    order = [_source_axis(pair, axes) for pair in _AXES]
    return orient(array_xIJK, order, [axes[axis] not in "LPS" for axis in order])


def native_slice(k: int, depth: int, axes: Sequence[str]) -> int:
    """The number, as stored, of slice ``k`` of what :func:`to_lps` returns, from the feet."""
    return k if "S" in axes else depth - 1 - k


def _slices(mask_IJK: Mask) -> list[int]:
    """The slice with the largest area and, if possible, one on either side within the mask."""
    area_K = mask_IJK.sum(axis=(0, 1))
    share_K = np.cumsum(area_K) / max(int(area_K.sum()), 1)
    largest = int(area_K.argmax())
    below, above = (int(np.searchsorted(share_K, share)) for share in _SHARES)
    wanted = (min(below, largest - 1), largest, max(above, largest + 1))
    return sorted({min(max(k, 0), len(area_K) - 1) for k in wanted})


def _clearest(image_CIJK: NDArray[np.float32], head_CIJK: Mask, region_IJK: Mask) -> int:
    """The channel in which the region differs most from the rest of the head, in its spread."""
    if not region_IJK.any():
        return 0
    contrast = []
    for image_IJK, head_IJK in zip(image_CIJK, head_CIJK, strict=True):
        rest = image_IJK[head_IJK & ~region_IJK]
        spread = float(rest.std()) if rest.size else 0.0
        gap = abs(float(image_IJK[region_IJK].mean()) - float(rest.mean())) if spread else 0.0
        contrast.append(gap / spread if spread else 0.0)
    return int(np.argmax(contrast))


def _plane_box(head_IJK: Mask) -> tuple[slice, slice]:
    rows, columns = head_IJK.shape[:2]
    box = bounding_box(head_IJK.any(axis=2)) or (slice(0, rows), slice(0, columns))
    i, j = (
        slice(max(hit.start - _MARGIN, 0), min(hit.stop + _MARGIN, size))
        for hit, size in zip(box, (rows, columns), strict=True)
    )
    return i, j


def _window(image_IJK: NDArray[np.float32], head_IJK: Mask) -> NDArray[np.float32]:
    """Grey values 0 to 1 over the 1st to 99.5th percentile of the head; outside it black."""
    if not head_IJK.any():
        return np.zeros_like(image_IJK)
    low, high = np.percentile(image_IJK[head_IJK], [1, 99.5])
    scaled = np.clip((image_IJK - low) / max(float(high - low), 1e-12), 0, 1)
    return np.where(head_IJK, 0.04 + 0.96 * scaled, 0).astype(np.float32)
