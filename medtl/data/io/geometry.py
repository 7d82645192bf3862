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

#: Grids are equal if their first voxels lie at most this share of a voxel apart ...
ORIGIN_TOLERANCE = 0.1


#: ... and their other corners less than this share. The quaternion of a qform, three float32,
#: turns a grid by up to 5e-4 rad: a third of a voxel at the end of 512. Below a half, every voxel
#: is still the nearest one to its counterpart.
CORNER_TOLERANCE = 0.5


#: Axes with a larger cosine between them are not perpendicular: the grid is sheared.
PERPENDICULAR = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The header of an image file.

    ``dtype`` is the type of the stored voxels; ``placed`` is False if the header says nowhere how
    the grid lies, so that readers differ in it.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    dtype: np.dtype[Any]
    placed: bool = True

    @property
    def sheared_mm(self) -> NDArray[np.float64] | None:
        """See :func:`sheared_steps`."""
        return sheared_steps(self.affine)


def sheared_steps(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The steps of I, J and K in mm (columns) if they are not perpendicular, else None."""
    steps_mm = affine[:3, :3]
    directions = steps_mm / np.linalg.norm(steps_mm, axis=0)
    cosines = directions.T @ directions - np.eye(3)
    return steps_mm if np.abs(cosines).max() > PERPENDICULAR else None


def fill(affine: NDArray[np.float64]) -> float:
    """The share of a box of its edges that a voxel fills: 1 unless the grid is sheared."""
    steps_mm = sheared_steps(affine)
    if steps_mm is None:
        return 1.0
    edges_mm = np.linalg.norm(steps_mm, axis=0)
    return abs(float(np.linalg.det(steps_mm))) / float(edges_mm.prod())


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
        DataError: two images differ in shape, or in the place of their corners by more than
            rounding does; see :data:`CORNER_TOLERANCE`.
    """
    (first, reference), *others = headers.items()
    for name, header in others:
        if header.shape != reference.shape:
            aspect, a, b = "shape", _joined(reference.shape), _joined(header.shape)
            advice = "resample them to the same grid first"
        elif same_place(header.shape, reference.affine, header.affine):
            continue
        else:
            aspect, a, b = _differing_affines(reference, header)
            advice = _advice(reference, header)
            b += f", so that corners lie up to {_gaps_mm(reference, header).max():.3g} mm apart"
        raise DataError(
            f"{case.id}: {first} ({reference.path}) has {aspect} {a}, {name} ({header.path}) "
            f"has {b}; {advice}"
        )


def same_grid(a: Header, b: Header) -> bool:
    """Whether two images have one shape and, but for rounding, one place."""
    return a.shape == b.shape and same_place(a.shape, a.affine, b.affine)


def lost_header(a: Header, b: Header) -> bool:
    """Whether one of two images looks as if written without the header that the other has."""
    return _lost(a) != _lost(b)


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where the stored axes run to, e.g. "LPS"."""
    return "".join(map(str, orientations.aff2axcodes(affine)))


def away_mm(
    shape: Sequence[int], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The way from each corner of a grid with affine ``a`` to that with affine ``b``, a row each,
    the first voxel's first."""
    corners = np.array(list(product(*((0, n - 1) for n in shape))), dtype=float)
    ends = (corners @ affine[:3, :3].T + affine[:3, 3] for affine in (a, b))
    return np.asarray(-np.subtract(*ends))


def _gaps_mm(a: Header, b: Header) -> NDArray[np.float64]:
    """How far the corners of two grids lie apart, the first voxels' first."""
    return np.asarray(np.linalg.norm(away_mm(a.shape, a.affine, b.affine), axis=1))


def same_place(shape: Sequence[int], a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether the corners of two grids lie within the tolerated shares of a voxel."""
    voxels = np.abs(away_mm(shape, a, b) @ np.linalg.inv(a[:3, :3]).T).max(axis=1)
    return bool(voxels[0] <= ORIGIN_TOLERANCE and voxels.max() < CORNER_TOLERANCE)


def _advice(a: Header, b: Header) -> str:
    """What to do about two grids of one shape that lie elsewhere."""
    lost_a, lost_b = _lost(a), _lost(b)
    if lost_a != lost_b:
        lost, kept = (a, b) if lost_a > lost_b else (b, a)
        return (
            f"{lost.path.name} has lost its header when it was written: if its voxels are in the "
            f"same order, write them again with the affine and header of {kept.path.name}"
        )
    ratio = np.divide(a.spacing_mm, b.spacing_mm)
    if np.allclose(ratio, 1000, rtol=1e-3) or np.allclose(ratio, 0.001, rtol=1e-3):
        return "one of the headers names another unit of length (xyzt_units); repair it"
    return "resample them to the same grid first"


def _lost(header: Header) -> int:
    """How much a grid lies as that of an array written without the header of its image: 0 to 2."""
    steps_mm, origin_mm = header.affine[:3, :3], header.affine[:3, 3]
    along_axes = np.array_equal(np.abs(steps_mm), np.diag(header.spacing_mm))
    at_0 = along_axes and not origin_mm.any()
    return 2 if not header.placed or (at_0 and header.spacing_mm == (1, 1, 1)) else int(at_0)


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
