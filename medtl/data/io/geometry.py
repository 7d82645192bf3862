"""Geometry of images: headers, common grids, and the canonical (RAS) orientation.

Axes: I J K voxels. Affines map voxel indices to millimetres, x to the right, y to the front, z up
(RAS), as in NIfTI.
"""

# nibabel is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from medtl.data.case import Case
from medtl.errors import DataError

#: The largest distance between corners of equal grids.
GRID_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The header of an image file; ``dtype`` is the type of the stored voxels."""

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    dtype: np.dtype[Any]


def ras_grid(header: Header) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing (mm) of an image, its axes in the order right, front, up."""
    axes, _ = to_ras(header.affine)
    return tuple(header.shape[n] for n in axes), tuple(header.spacing_mm[n] for n in axes)


def to_ras(
    affine: NDArray[np.float64],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which stored axis runs right, front and up, and whether it runs backwards."""
    codes = orientations.io_orientation(affine)
    i, j, k = (int(axis) for axis in np.argsort(codes[:, 0]))
    return (i, j, k), (bool(codes[i, 1] < 0), bool(codes[j, 1] < 0), bool(codes[k, 1] < 0))


def orient(array_xIJK: NDArray[Any], axes: Sequence[int], flips: Sequence[bool]) -> NDArray[Any]:
    """A view of the array with its last three axes in the order ``axes``, reversed by ``flips``."""
    lead = array_xIJK.ndim - 3
    turned = array_xIJK.transpose(*range(lead), *(lead + axis for axis in axes))
    steps: Any = (slice(None, None, -1 if flip else 1) for flip in flips)
    return turned[(..., *steps)]


def check_same_grid(case: Case, headers: Mapping[str, Header]) -> None:
    """Refuse images of one case that are not on one grid.

    Args:
        headers: modality (or "segmentation") -> header.

    Raises:
        DataError: two images differ in shape, or in the place of their corners.
    """
    (first, reference), *others = headers.items()
    for name, header in others:
        if header.shape != reference.shape:
            what = "shape", _joined(reference.shape), _joined(header.shape)
        elif _largest_gap_mm(reference, header) <= GRID_TOLERANCE_MM:
            continue
        else:
            what = _differing_affines(reference, header)
        aspect, a, b = what
        raise DataError(
            f"{case.id}: {first} ({reference.path}) has {aspect} {a}, {name} ({header.path}) "
            f"has {b}; resample them to the same grid first"
        )


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where the stored axes run to, e.g. "LPS"."""
    return "".join(map(str, orientations.aff2axcodes(affine)))


def _corners_mm(header: Header) -> NDArray[np.float64]:
    corners = np.array(list(product(*((0, n - 1) for n in header.shape))), dtype=float)
    return np.asarray(corners @ header.affine[:3, :3].T + header.affine[:3, 3])


def _largest_gap_mm(a: Header, b: Header) -> float:
    return float(np.linalg.norm(_corners_mm(a) - _corners_mm(b), axis=1).max())


def _differing_affines(a: Header, b: Header) -> tuple[str, str, str]:
    aspects = {
        "orientation": lambda h: axis_codes(h.affine),
        "spacing (mm)": lambda h: _listed(h.spacing_mm),
        "origin (mm)": lambda h: _listed(h.affine[:3, 3]),
    }
    for aspect, describe in aspects.items():
        if describe(a) != describe(b):
            return aspect, describe(a), describe(b)
    return "affine", _listed(a.affine[:3].ravel()), _listed(b.affine[:3].ravel())


def _joined(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _listed(lengths_mm: Any) -> str:
    return "[" + ", ".join(f"{round(float(mm), 3) + 0:g}" for mm in lengths_mm) + "]"


def to_canonical(
    array_IJK: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Flip and permute the axes, without resampling, to the nearest RAS orientation.

    Returns:
        the array (voxel axes run right, front, up; a view if possible), its affine, and the former
        orientation, which :func:`from_canonical` takes.
    """
    orientation = orientations.io_orientation(affine)
    moved_IJK = orientations.apply_orientation(array_IJK, orientation)
    back = orientations.inv_ornt_aff(orientation, array_IJK.shape[:3])
    return moved_IJK, np.asarray(affine @ back), orientation


def from_canonical(array_IJK: NDArray[Any], orientation: NDArray[np.float64]) -> NDArray[Any]:
    """Undo :func:`to_canonical`: turn a canonical array back to its former ``orientation``."""
    canonical = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    way_back = orientations.ornt_transform(canonical, orientation)
    return np.asarray(orientations.apply_orientation(array_IJK, way_back))
