"""Voxel spacing: one number for cubes, or one per axis (right, front, up), in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Spacing = float | tuple[float, float, float]

#: Slices are thick if they are this many times as far apart as the voxels within them.
THICK = 3.0

#: Voxels so many times larger or smaller than usual, along every axis, are odd. A training grid is
#: chosen coarser than its images more often than finer.
ODD_LARGER, ODD_SMALLER = 5.0, 9.0

#: Voxel edges outside this range (mm) come from a broken header or another unit; if the header
#: gives microns, the lower limit is as many microns.
SPACING_RANGE_MM = (0.01, 100.0)


def axes_mm(spacing_mm: Spacing | Sequence[float]) -> tuple[float, float, float]:
    """The spacing of each axis."""
    if isinstance(spacing_mm, int | float):
        return (float(spacing_mm),) * 3
    i, j, k = map(float, spacing_mm)
    return i, j, k


def as_spacing(edges_mm: Any) -> Spacing:
    """One number where it is one for all axes; also from what JSON holds."""
    axes = axes_mm(edges_mm)
    return axes[0] if len(set(axes)) == 1 else axes


def in_mm(spacing_mm: Spacing | Sequence[float]) -> str:
    """The spacing in words: "2 mm" or "1x1x4 mm"."""
    return _joined(spacing_mm, "x") + " mm"


def thickest_axis(edges_mm: Sequence[float]) -> int:
    """The axis of the longest edges, the last of those that are equal but for rounding."""
    rounded = [round(edge, 3) for edge in edges_mm]
    return max(range(len(rounded)), key=lambda axis: (rounded[axis], axis))


def thick_axis(spacing_mm: Spacing | Sequence[float]) -> int | None:
    """The axis along which slices are thick: several times as far apart as their voxels."""
    edges_mm = axes_mm(spacing_mm)
    thick = edges_mm.index(max(edges_mm))
    others = max(mm for axis, mm in enumerate(edges_mm) if axis != thick)
    return thick if edges_mm[thick] >= THICK * others else None


def as_option(spacing_mm: Spacing) -> str:
    """The spacing as the value of ``--spacing``."""
    return _joined(spacing_mm, ",")


def _joined(spacing_mm: Spacing | Sequence[float], by: str) -> str:
    each = (spacing_mm,) if isinstance(spacing_mm, int | float) else spacing_mm
    return by.join(f"{mm:g}" for mm in each)


def is_odd(edges_mm: Sequence[float], usual_mm: Sequence[float]) -> bool:
    """Whether voxels are so much smaller or larger than usual that their unit may be wrong."""
    pairs = list(zip(sorted(edges_mm), sorted(usual_mm), strict=True))
    larger = all(edge > ODD_LARGER * usual for edge, usual in pairs)
    return larger or all(edge * ODD_SMALLER < usual for edge, usual in pairs)
