"""What is measured of one image.

Axes: I J K voxels, as stored or canonical (RAS); S slice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.audit.facts.marks import find_marks
from medtl.audit.facts.model import ImageFacts, Placement
from medtl.audit.search.thumbnails import thumbnail_of
from medtl.data.content_hash import content_hash
from medtl.data.io.foreground import foreground, off_background
from medtl.data.io.geometry import from_canonical, to_canonical
from medtl.data.io.grids import block_mean, bounding_box
from medtl.data.modality import Modality
from medtl.data.voxel_size import thickest_axis
from medtl.shift.contract import FeatureSettings, View
from medtl.shift.features.appearance import appearance

QUANTILES = (1, 5, 25, 50, 75, 95, 99)

#: Values that quantiles are taken of.
MOST_VALUES = 500_000

#: Pictures are averaged to about this edge before all is measured but their thumbnail.
EDGE = 192

#: Slices on each side that a jump is compared with, and their least foreground, relative to the
#: largest.
AROUND, LEAST_AREA = 3, 0.3


def measure_image(
    array_IJK: NDArray[np.float32], affine: NDArray[np.float64], placement: Placement
) -> tuple[ImageFacts, NDArray[np.bool_] | None]:
    """The facts of one image, as stored; voxels that are not finite are counted and set to 0.

    Returns:
        them, and the canonical foreground, where it was found: not of pictures, which are made
        smaller first, nor of constant images.
    """
    not_finite = int(array_IJK.size - np.count_nonzero(np.isfinite(array_IJK)))
    if not_finite:
        array_IJK = without_broken(array_IJK)
    look = _look(array_IJK, affine, placement, content_hash(array_IJK, affine))
    if look is None:
        return replace(constant(array_IJK, placement), not_finite=not_finite), None
    facts, shown_IJK = look.facts, look.shown_IJK
    at_top = np.count_nonzero(array_IJK == facts.high)
    slices = {}
    if not facts.flat:
        slices = _slices(array_IJK, from_canonical(shown_IJK, look.former), placement)
    facts = replace(
        facts,
        not_finite=not_finite,
        saturated=min(1.0, at_top / _foreground_size(array_IJK, shown_IJK)),
        texture=_texture(look.small_IJK, shown_IJK, placement, facts.flat),
        marks=find_marks(array_IJK[..., 0]) if facts.flat else (0, 0),
        **slices,
    )
    return facts, None if facts.flat else shown_IJK


def look_at_image(
    array_IJK: NDArray[np.float32],
    affine: NDArray[np.float64],
    placement: Placement,
    content: str,
) -> ImageFacts:
    """The facts that cost little beside reading an image of finite voxels.

    Args:
        content: its hash, as :func:`medtl.data.content_hash.content_hash`.
    """
    look = _look(array_IJK, affine, placement, content)
    return look.facts if look else constant(array_IJK, placement)


def constant(array_IJK: NDArray[np.float32], placement: Placement) -> ImageFacts:
    """The facts of an image of one value."""
    level = float(array_IJK.min())
    return ImageFacts(placement, flat=array_IJK.shape[2] == 1, low=level, high=level)


@dataclass(frozen=True, slots=True)
class _Look:
    """Facts of a look, and what further ones are measured from.

    Args:
        small_IJK: the canonical image, a picture made smaller; ``shown_IJK`` is its foreground.
        former: undoes the canonical orientation.
    """

    facts: ImageFacts
    small_IJK: NDArray[np.float32]
    shown_IJK: NDArray[np.bool_]
    former: Any


def _look(
    array_IJK: NDArray[np.float32],
    affine: NDArray[np.float64],
    placement: Placement,
    content: str,
) -> _Look | None:
    """None for an image of one value."""
    low, high = float(array_IJK.min()), float(array_IJK.max())
    flat = array_IJK.shape[2] == 1
    if low == high:
        return None
    canonical_IJK, _, former = to_canonical(array_IJK, affine)
    small_IJK = _small(canonical_IJK) if flat else canonical_IJK
    shown_IJK = foreground(small_IJK)
    stripped = not flat and off_background(small_IJK) is not None
    inside = _sample(small_IJK[shown_IJK])
    facts = ImageFacts(
        placement,
        content=content,
        flat=flat,
        low=low,
        high=high,
        levels=tuple(map(float, np.percentile(inside, QUANTILES))),
        ground=float(np.median(small_IJK[~shown_IJK])) if stripped and not shown_IJK.all() else 0.0,
        stripped=stripped,
        thumbnail=thumbnail_of(canonical_IJK, shown_IJK if stripped and not flat else None),
        border=_border(array_IJK[..., 0], low, high) if flat else (),
    )
    return _Look(facts, small_IJK, shown_IJK, former)


def without_broken(array_IJK: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with 0 in place of voxels that are not finite."""
    return np.nan_to_num(array_IJK, posinf=0.0, neginf=0.0)


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
    axis = thickest_axis(placement.spacing_mm)
    slices_S, area_S = np.moveaxis(array_IJK, axis, 0), np.moveaxis(shown_IJK, axis, 0)
    count = len(slices_S)
    blank = np.array([one.min() == one.max() for one in slices_S])
    filled = np.flatnonzero(~blank)
    if not len(filled):  # every slice has one value
        return {"slices": count}
    start, end = int(filled[0]), count - 1 - int(filled[-1])
    inner = int(blank[filled[0] : filled[-1] + 1].sum())
    across_S = np.abs(np.diff(slices_S, axis=0))
    change = across_S.mean(axis=(1, 2), dtype=np.float64)
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
        "thick": _thickness(slices_S, area_S, across_S),
        "jumps": _jumps(change, shares >= LEAST_AREA * largest),
        "area": max(edges, default=0.0) / largest,
    }


def _thickness(
    slices_S: NDArray[np.float32], area_S: NDArray[np.bool_], across_S: NDArray[np.float32]
) -> float:
    """The median change of the foreground from slice to slice, over that within slices.

    ``across_S``: the change from each slice to the next.
    """

    def usual(axis: int, change: NDArray[np.float32]) -> float:
        area = np.moveaxis(area_S, axis, 0)
        both = np.moveaxis(area[1:] & area[:-1], 0, axis)
        return float(np.median(_sample(change[both])))

    within = [usual(axis, np.abs(np.diff(slices_S, axis=axis))) for axis in (1, 2)]
    mean = float(np.mean(within))
    return usual(0, across_S) / mean if mean else 0.0


def _run(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)


def _jumps(change_S: NDArray[np.float64], large_S: NDArray[np.bool_]) -> tuple[float, ...]:
    """Each change, relative to the second largest of those around it; 0 where there are too few.

    Of images that were made of thicker slices, every second change is large.

    ``large_S``: slices that show much; towards the ends of a head neighbours differ more and more.
    """
    found = [0.0] * len(change_S)
    for n in range(AROUND, len(change_S) - AROUND):
        if large_S[n - AROUND : n + 2 + AROUND].all():
            around = np.r_[change_S[n - AROUND : n], change_S[n + 1 : n + 1 + AROUND]]
            usual = float(np.sort(around)[-2])
            found[n] = round(float(change_S[n] / usual), 3) if usual else 0.0
    return tuple(found)


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
    """Mean and spread of the outermost rows and columns at each side, relative to the range."""
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
