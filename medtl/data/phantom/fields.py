"""Smooth random fields and signed distances in millimetres, independent of the voxel size.

Axes: I left, J posterior, K superior (the array order of an LPS image); C the 3 coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float64]


HEAD_MM = 180.0  #: edge of the cubic field of view


_LATTICE_MM = 208.0  #: edge of the lattices that fields are drawn on


def grid_axis_mm(size: int) -> FloatArray:
    """Voxel centres along one axis, 0 at the centre of the field of view."""
    return (np.arange(size, dtype=np.float64) - (size - 1) / 2) * (HEAD_MM / size)


def grid_CIJK(size: int) -> FloatArray:
    """Coordinates (left, posterior, superior) of every voxel centre in mm."""
    axis = grid_axis_mm(size)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


def _bspline_basis(axis_mm: FloatArray, knots: int, step_mm: float) -> FloatArray:
    """Cubic B-spline weights, one row per position and one column per lattice point."""
    t = np.abs(axis_mm[:, None] / step_mm - (np.arange(knots) - (knots - 1) / 2)[None, :])
    near = 2 / 3 - t**2 + t**3 / 2
    far = np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far)


def _lattice(rng: np.random.Generator, step_mm: float) -> FloatArray:
    knots = int(np.ceil(_LATTICE_MM / step_mm)) + 4
    return rng.standard_normal((knots, knots, knots))


#: Standard deviation of a 3-D cubic B-spline of unit white noise, averaged over positions.
_BSPLINE_STD = (151 / 315) ** 1.5


def random_field(rng: np.random.Generator, size: int, step_mm: float) -> FloatArray:
    """Smooth Gaussian field, mean 0, standard deviation 1, on the voxel grid.

    ``step_mm`` is the lattice spacing; bumps are about twice as wide. The field is a function of
    space, so the same generator state gives the same field at every ``size``. ``einsum`` stays off
    BLAS, whose sums depend on its number of threads.
    """
    lattice = _lattice(rng, step_mm)
    basis = _bspline_basis(grid_axis_mm(size), lattice.shape[0], step_mm)
    partial = np.einsum("abc,kc->abk", lattice, basis)
    partial = np.einsum("abk,jb->ajk", partial, basis)
    return np.asarray(np.einsum("ajk,ia->ijk", partial, basis) / _BSPLINE_STD)


def random_field_at(
    rng: np.random.Generator, points_CIJK: FloatArray, step_mm: float
) -> FloatArray:
    """As :func:`random_field`, but evaluated at any points (mm)."""
    lattice = _lattice(rng, step_mm)
    index_CIJK = points_CIJK / step_mm + (lattice.shape[0] - 1) / 2
    values = ndimage.map_coordinates(lattice, index_CIJK, order=3, prefilter=False, mode="nearest")
    return np.asarray(values / _BSPLINE_STD)


def ellipsoid(
    points_CIJK: FloatArray, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> FloatArray:
    """Signed distance to an ellipsoid in mm, negative inside; first order, exact for spheres."""
    offset = points_CIJK - np.reshape(centre, (3, 1, 1, 1))
    scaled = offset / np.reshape(radii, (3, 1, 1, 1))
    k0 = np.sqrt(np.sum(scaled**2, axis=0))
    k1 = np.sqrt(np.sum((scaled / np.reshape(radii, (3, 1, 1, 1))) ** 2, axis=0))
    return np.where(k0 > 1e-6, k0 * (k0 - 1) / np.maximum(k1, 1e-9), -min(radii))


def tube(
    points_CIJK: FloatArray, path: list[tuple[float, float, float]], radii: list[float]
) -> FloatArray:
    """Signed distance to a polyline whose radius changes linearly between its points."""
    distance = np.full(points_CIJK.shape[1:], np.inf)
    for start, end, r0, r1 in zip(path, path[1:], radii, radii[1:], strict=False):
        a = np.reshape(start, (3, 1, 1, 1))
        axis = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
        length2 = float(np.sum(axis**2))
        t = np.clip(np.einsum("c,cijk->ijk", axis, points_CIJK - a) / length2, 0, 1)
        offset = points_CIJK - a - axis.reshape(3, 1, 1, 1) * t
        distance = np.minimum(distance, np.sqrt(np.sum(offset**2, axis=0)) - (r0 + t * (r1 - r0)))
    return distance


def smooth_union(distances: list[FloatArray], width_mm: float) -> FloatArray:
    """Union of signed distances with rounded joints."""
    stack = np.stack(distances) / -width_mm
    return np.asarray(-width_mm * np.logaddexp.reduce(stack, axis=0))


def share_inside(distance: FloatArray, spacing_mm: float) -> FloatArray:
    """Share of each voxel on the negative side of a boundary (partial volume)."""
    return np.clip(0.5 - distance / spacing_mm, 0.0, 1.0)
