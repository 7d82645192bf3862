"""What is measured of one image.

Axes: I J K voxels, as stored or canonical (RAS); S slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.audit.facts.model import ImageFacts, Placement
from medtl.audit.search.thumbnails import thumbnail_of
from medtl.data.content_hash import content_hash
from medtl.data.io.foreground import foreground, off_background
from medtl.data.io.geometry import from_canonical, to_canonical
from medtl.data.io.grids import block_mean, bounding_box
from medtl.data.modality import Modality
from medtl.shift.contract import FeatureSettings, View
from medtl.shift.features.appearance import appearance

QUANTILES = (1, 5, 25, 50, 75, 95, 99)

#: Values that quantiles are taken of.
MOST_VALUES = 500_000

#: Pictures are averaged to about this edge before all is measured but their thumbnail.
EDGE = 192

#: Slices on each side that a jump is compared with, and their least foreground, relative to the
#: largest.
AROUND, LEAST_AREA = 3, 0.5


def measure_image(
    array_IJK: NDArray[np.float32], affine: NDArray[np.float64], placement: Placement
) -> ImageFacts:
    """The facts of one image, as stored; voxels that are not finite are counted and set to 0."""
    finite_IJK = np.isfinite(array_IJK)
    not_finite = int(array_IJK.size - np.count_nonzero(finite_IJK))
    if not_finite:
        array_IJK = np.where(finite_IJK, array_IJK, np.float32(0))
    low, high = float(array_IJK.min()), float(array_IJK.max())
    flat = array_IJK.shape[2] == 1
    if low == high:
        return ImageFacts(placement, flat=flat, not_finite=not_finite, low=low, high=high)
    canonical_IJK, _, former = to_canonical(array_IJK, affine)
    small_IJK = _small(canonical_IJK) if flat else canonical_IJK
    shown_IJK = foreground(small_IJK)
    stripped = not flat and off_background(small_IJK) is not None
    inside = _sample(small_IJK[shown_IJK])
    return ImageFacts(
        placement,
        content=content_hash(array_IJK, affine),
        flat=flat,
        not_finite=not_finite,
        low=low,
        high=high,
        levels=tuple(map(float, np.percentile(inside, QUANTILES))),
        background=float(1 - shown_IJK.mean()),
        ground=float(np.median(small_IJK[~shown_IJK])) if stripped and not shown_IJK.all() else 0.0,
        stripped=stripped,
        saturated=min(
            1.0, np.count_nonzero(array_IJK == high) / _foreground_size(array_IJK, shown_IJK)
        ),
        **({} if flat else _slices(array_IJK, from_canonical(shown_IJK, former), placement)),
        texture=_texture(small_IJK, shown_IJK, placement, flat),
        thumbnail=thumbnail_of(canonical_IJK, shown_IJK if stripped and not flat else None),
        border=_border(array_IJK[..., 0], low, high) if flat else (),
    )


def slice_axis(placement: Placement) -> int:
    """The axis of the thickest voxels, the last of equal ones."""
    edges = [round(edge, 3) for edge in placement.spacing_mm]
    return 2 - int(np.argmax(edges[::-1]))


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[:: max(1, len(values) // MOST_VALUES)] if len(values) else np.zeros(1, np.float32)


def _foreground_size(array_IJK: NDArray[Any], shown_IJK: NDArray[np.bool_]) -> float:
    """Voxels of the foreground, which was found on an image of fewer."""
    return max(1.0, array_IJK.size * float(shown_IJK.mean()))


def _small(picture_IJK: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture of at most about :data:`EDGE` pixels along each edge."""
    factor = max(1, round(max(picture_IJK.shape) / EDGE))
    return block_mean(picture_IJK, [min(factor, edge) for edge in picture_IJK.shape])


def _slices(
    array_IJK: NDArray[np.float32], shown_IJK: NDArray[np.bool_], placement: Placement
) -> dict[str, Any]:
    """What neighbouring slices tell: blank, doubled and repeated ones, jumps."""
    axis = slice_axis(placement)
    slices_S, area_S = np.moveaxis(array_IJK, axis, 0), np.moveaxis(shown_IJK, axis, 0)
    count = len(slices_S)
    blank = np.array([one.min() == one.max() for one in slices_S])
    filled = np.flatnonzero(~blank)
    start, end = int(filled[0]), count - 1 - int(filled[-1])
    inner = int(blank[filled[0] : filled[-1] + 1].sum())
    change = np.zeros(count - 1)
    for number in range(count - 1):
        change[number] = float(np.abs(slices_S[number + 1] - slices_S[number]).mean())
    equal = change == 0
    doubled = [n + 1 for n in np.flatnonzero(equal) if not blank[n]]
    first, last = _run(equal), _run(equal[::-1])
    repeated = (first if not blank[0] else 0, last if not blank[-1] else 0)
    shares = area_S.reshape(count, -1).mean(axis=1)
    edges = [shares[filled[0]]] * bool(start) + [shares[filled[-1]]] * bool(end)
    largest = float(shares.max()) or 1.0
    return {
        "blank": (start, inner, end),
        "doubled": tuple(int(n) for n in doubled),
        "repeated": repeated,
        "slices": count,
        "thick": _thickness(slices_S, area_S),
        "jump": _jump(change, shares >= LEAST_AREA * largest),
        "area": max(edges, default=0.0) / largest,
    }


def _thickness(slices_S: NDArray[np.float32], area_S: NDArray[np.bool_]) -> float:
    """The median change of the foreground from slice to slice, over that within slices."""
    both_S = area_S[1:] & area_S[:-1]
    across = np.abs(slices_S[1:] - slices_S[:-1])[both_S]
    within = [
        np.abs(np.diff(slices_S, axis=axis))[
            area_S[:, 1:] & area_S[:, :-1] if axis == 1 else area_S[:, :, 1:] & area_S[:, :, :-1]
        ]
        for axis in (1, 2)
    ]
    usual = float(np.mean([np.median(_sample(one)) for one in within]))
    return float(np.median(_sample(across))) / usual if usual else 0.0


def _run(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)


def _jump(change_S: NDArray[np.float64], large_S: NDArray[np.bool_]) -> tuple[float, int]:
    """The largest change, relative to the largest of those around it, and where it is.

    ``large_S``: slices that show much; towards the ends of a head neighbours differ more and more.
    """
    worst, place = 0.0, 0
    for n in range(AROUND, len(change_S) - AROUND):
        if not large_S[n - AROUND : n + 2 + AROUND].all():
            continue
        around = np.r_[change_S[n - AROUND : n], change_S[n + 1 : n + 1 + AROUND]]
        usual = float(around.max())
        if usual and change_S[n] / usual > worst:
            worst, place = float(change_S[n] / usual), n
    return worst, place


def _texture(
    canonical_IJK: NDArray[np.float32],
    shown_IJK: NDArray[np.bool_],
    placement: Placement,
    flat: bool,
) -> dict[str, float]:
    """The columns of the shift's ``appearance`` features."""
    box = bounding_box(shown_IJK)
    if box is None:
        return {}
    view = View(
        "",
        (Modality("image"),),
        canonical_IJK[None],
        shown_IJK[None],
        placement.spacing_mm,
        placement.codes or "RAS",
        flat,
    )
    rows = appearance(FeatureSettings()).rows(view)
    return dict(zip(rows.names, map(float, rows.values_NF[0]), strict=True))


def _border(picture_IJ: NDArray[np.float32], low: float, high: float) -> tuple[float, ...]:
    """Mean and spread of each outermost row and column, and of the four corners, of the range."""
    deep = max(1, min(picture_IJ.shape) // 32)
    sides = (
        picture_IJ[:deep],
        picture_IJ[-deep:],
        picture_IJ[:, :deep],
        picture_IJ[:, -deep:],
    )
    scale = high - low
    numbers = [((side.mean() - low) / scale, side.std() / scale) for side in sides]
    return tuple(float(number) for pair in numbers for number in pair)
