"""The grid an image is stored on, how fine its details really are, and what part it shows.

Axes: I J K voxels (right-anterior-superior; of pictures rows, columns and one).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from medtl.data.io.grids import bounding_box
from medtl.shift.contract import View
from medtl.shift.features.region import Foreground, foreground_mask
from medtl.shift.features.texture import Image, Mask, eroded, finest_plane, noise_deviation, three
from medtl.transforms.histogram import CLIP_PERCENTILES, quantiles

#: Widths of details that can be told, in voxels: wider ones all look straight.
WIDTHS = np.geomspace(0.3, 6.0, 400)


#: What noise leaves of a squared difference is at least this share: it is known no better.
LEAST_SIGNAL = 0.05


AXES = "ijk"


_LETTERS = ("RL", "AP", "SI")  # right-anterior-superior, and the other way round


def resolution_columns(view: View, shown: Foreground) -> dict[str, float]:
    """Logs of the spacing (pictures: of the longest edge in pixels), and of the width of details
    along each axis, in mm (pictures: 256ths of the longest edge).

    The width is what the content needs, whatever grid it is stored on: an enlarged image has a
    finer grid and details as wide as before.
    """
    if view.is_2d:
        found = {"pixels": np.log(max(view.image_CIJK.shape[1:]))}
    else:
        found = {
            f"spacing_{axis}": np.log(mm) for axis, mm in zip(AXES, view.spacing_mm, strict=True)
        }
    widths = zip(AXES, shown.step, detail_widths(shown), strict=True)
    found |= {f"width_{axis}": np.log(width * edge) for axis, edge, width in widths}
    if view.is_2d:
        del found["width_k"]
    return {f"resolution/{name}": float(value) for name, value in found.items()}


def detail_widths(shown: Foreground) -> tuple[float, ...]:
    """Along each axis, in voxels: the deviation of the Gaussian correlation that makes the squared
    differences of neighbours and of voxels two apart as they are, white noise taken off.

    1 where no three shown voxels lie in a row, or all are alike.
    """
    plane = finest_plane(shown.shape, shown.step)
    sigma = noise_deviation(shown.scaled_IJK, shown.foreground_IJK, plane) if plane else 0.0
    limits = shown.scaled(quantiles(shown.values_N, CLIP_PERCENTILES))
    image_IJK = np.clip(shown.scaled_IJK, *limits.astype(np.float32))
    return tuple(_width(image_IJK, shown.foreground_IJK, axis, sigma) for axis in range(3))


def _width(image_IJK: Image, inside_IJK: Mask, axis: int, sigma: float) -> float:
    if image_IJK.shape[axis] < 3:
        return 1.0
    left, middle, right = three(image_IJK, axis)
    valid_IJK = eroded(inside_IJK, axis)
    near = _mean_square(middle, left, valid_IJK)
    far = _mean_square(right, left, valid_IJK)
    if not near or not far:
        return 1.0
    near, far = (max(found - 2 * sigma**2, LEAST_SIGNAL * found) for found in (near, far))
    # Squared differences at distance h grow as 1 - exp(-h^2 / 2 width^2).
    ratios = np.expm1(-0.5 / WIDTHS**2) / np.expm1(-2 / WIDTHS**2)
    return float(np.interp(-near / far, -ratios, WIDTHS))


def _mean_square(a_IJK: Image, b_IJK: Image, valid_IJK: Mask) -> float:
    differences = (a_IJK - b_IJK)[valid_IJK]
    if not len(differences):
        return 0.0
    return float(np.dot(differences, differences)) / len(differences)


def view_columns(view: View) -> dict[str, float]:
    """Logs of the field of view and of the extent of what is shown, in mm, the share of the image
    that shows something, how far its centre is off the image's, in shares of the edges, and the
    orientation of the stored axes as a number (0: RAS; 48 exist, their order means nothing).

    Pictures: the log of rows over columns in place of the field of view, the extent in shares of
    the edges, and no orientation.
    """
    foreground_IJK = foreground_mask(view)
    shape = np.array(foreground_IJK.shape)
    box = bounding_box(foreground_IJK)
    assert box is not None  # foreground_mask is never empty
    edges = np.array([side.stop - side.start for side in box])
    centre = np.array([(side.stop + side.start) / 2 for side in box])
    unit = 1 / shape if view.is_2d else np.array(view.spacing_mm)
    used = AXES[:2] if view.is_2d else AXES
    found = {"aspect": np.log(shape[0] / shape[1])} if view.is_2d else {}
    for n, axis in enumerate(used):
        if not view.is_2d:
            found[f"field_{axis}"] = np.log(shape[n] * unit[n])
        found[f"extent_{axis}"] = np.log(edges[n] * unit[n])
        found[f"offset_{axis}"] = centre[n] / shape[n] - 0.5
    found["share"] = np.count_nonzero(foreground_IJK) / foreground_IJK.size
    if not view.is_2d:
        found["orientation"] = orientation_number(view.orientation)
    return {f"view/{name}": float(value) for name, value in found.items()}


def orientation_number(orientation: str) -> int:
    """``"RAS"`` -> 0, ``"LAS"`` -> 1, ...: which axis is stored first, and which are turned."""
    axes = tuple(
        next(n for n, pair in enumerate(_LETTERS) if letter in pair) for letter in orientation
    )
    turned = sum(
        1 << axis
        for axis, letter in zip(axes, orientation, strict=True)
        if letter == _LETTERS[axis][1]
    )
    return 8 * list(permutations(range(3))).index(axes) + turned
