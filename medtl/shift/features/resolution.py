"""The stored grid of an image, the width of its details, and its field of view.

Axes: I J K voxels (right-anterior-superior; pictures: rows, columns, 1).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from medtl.data.io.grids import bounding_box
from medtl.shift.contract import View
from medtl.shift.features.region import Foreground, foreground_mask
from medtl.shift.features.texture import Image, Mask, eroded, finest_plane, noise_deviation, three
from medtl.transforms.histogram import CLIP_PERCENTILES, quantiles

#: Measurable widths of details, in voxels: wider ones are all linear at this distance.
WIDTHS = np.geomspace(0.3, 6.0, 400)

#: Least share of a squared difference that remains after subtracting the noise.
LEAST_SIGNAL = 0.05

AXES = "ijk"

_LETTERS = ("RL", "AP", "SI")  # right-anterior-superior, and the opposite directions


def resolution_columns(view: View, part: Foreground) -> dict[str, float]:
    """Logs of the spacing, and of the width of details along each axis, in mm.

    Pictures: logs of the longest edge in pixels, and of the widths in 256ths of it. The width does
    not depend on the stored grid: an enlarged image has a finer grid and details as wide as before.
    """
    spacings = zip(AXES, view.spacing_mm, strict=True)
    columns = {f"spacing_{axis}": np.log(mm) for axis, mm in spacings}
    if view.is_2d:
        columns = {"pixels": np.log(max(view.image_CIJK.shape[1:]))}
    widths = zip(AXES, part.step, detail_widths(part), strict=True)
    columns |= {f"width_{axis}": np.log(width * edge) for axis, edge, width in widths}
    if view.is_2d:
        del columns["width_k"]
    return {f"resolution/{name}": float(value) for name, value in columns.items()}


def detail_widths(part: Foreground) -> tuple[float, ...]:
    """The width of details along each axis, in voxels.

    It is the standard deviation of the Gaussian correlation that gives the measured squared
    differences of voxels at distances 1 and 2, without white noise. It is 1 if no three foreground
    voxels are in a row, or all are equal.
    """
    plane = finest_plane(part.shape, part.step)
    sigma = noise_deviation(part.scaled_IJK, part.foreground_IJK, plane) if plane else 0.0
    limits = part.scaled(quantiles(part.values_N, CLIP_PERCENTILES))
    image_IJK = np.clip(part.scaled_IJK, *limits.astype(np.float32))
    return tuple(_width(image_IJK, part.foreground_IJK, axis, sigma) for axis in range(3))


def _width(image_IJK: Image, inside_IJK: Mask, axis: int, sigma: float) -> float:
    if image_IJK.shape[axis] < 3:
        return 1.0
    left, middle, right = three(image_IJK, axis)
    valid_IJK = eroded(inside_IJK, axis)
    near = _mean_square(middle, left, valid_IJK)
    far = _mean_square(right, left, valid_IJK)
    if not near or not far:
        return 1.0
    near, far = (max(square - 2 * sigma**2, LEAST_SIGNAL * square) for square in (near, far))
    # Squared differences at distance h grow as 1 - exp(-h^2 / 2 width^2).
    ratios = np.expm1(-0.5 / WIDTHS**2) / np.expm1(-2 / WIDTHS**2)
    return float(np.interp(-near / far, -ratios, WIDTHS))


def _mean_square(a_IJK: Image, b_IJK: Image, valid_IJK: Mask) -> float:
    differences = (a_IJK - b_IJK)[valid_IJK]
    if not len(differences):
        return 0.0
    return float(np.dot(differences, differences)) / len(differences)


def view_columns(view: View) -> dict[str, float]:
    """The field of view, the place of the foreground in it, and the stored orientation.

    Logs of the field of view and of the foreground's extent, in mm; the foreground's share of the
    image; the offset of its centre, relative to the edges; the number of the stored orientation
    (0: RAS; the order of all 48 is arbitrary). Pictures: the log of rows over columns instead of
    the field of view, the extent relative to the edges, and no orientation.
    """
    foreground_IJK = foreground_mask(view)
    shape = np.array(foreground_IJK.shape)
    box = bounding_box(foreground_IJK)
    assert box is not None  # foreground_mask is never empty
    edges = np.array([span.stop - span.start for span in box])
    centre = np.array([(span.stop + span.start) / 2 for span in box])
    unit = 1 / shape if view.is_2d else np.array(view.spacing_mm)
    used = AXES[:2] if view.is_2d else AXES
    columns = {"aspect": np.log(shape[0] / shape[1])} if view.is_2d else {}
    for n, axis in enumerate(used):
        if not view.is_2d:
            columns[f"field_{axis}"] = np.log(shape[n] * unit[n])
        columns[f"extent_{axis}"] = np.log(edges[n] * unit[n])
        columns[f"offset_{axis}"] = centre[n] / shape[n] - 0.5
    columns["share"] = np.count_nonzero(foreground_IJK) / foreground_IJK.size
    if not view.is_2d:
        columns["orientation"] = orientation_number(view.orientation)
    return {f"view/{name}": float(value) for name, value in columns.items()}


def orientation_number(orientation: str) -> int:
    """``"RAS"`` -> 0, ``"LAS"`` -> 1, ...: the order of the stored axes, and which are flipped."""
    axes = tuple(next(n for n in range(3) if letter in _LETTERS[n]) for letter in orientation)
    flipped = sum(1 << n for n in range(3) if _LETTERS[n][1] in orientation)
    return 8 * list(permutations(range(3))).index(axes) + flipped
