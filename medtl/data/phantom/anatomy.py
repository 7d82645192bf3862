"""The healthy head as tissue fractions: brain, folded cortex, ventricles, deep grey, vessels.

Axes: C the 3 coordinates (left, posterior, superior; mm), L tissue, I J K the voxel grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.data.phantom.fields import (
    HEAD_MM,
    FloatArray,
    ellipsoid,
    grid_CIJK,
    random_field,
    random_field_at,
    share_inside,
    smooth_union,
    tube,
)
from medtl.data.phantom.physics import TISSUE_NAMES

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Patient:
    """What differs between heads, drawn before anything is rendered. ``age`` runs from 0 to 1."""

    scale: Point
    age: float
    ventricle_mm: float
    cortex_mm: float
    asymmetry_mm: float


def draw_patient(rng: np.random.Generator) -> Patient:
    width, length, height = 1 + np.clip(rng.normal(0, 0.03, 3), -0.05, 0.05)
    age = float(rng.random())
    return Patient(
        scale=(float(width), float(length), float(height)),
        age=age,
        ventricle_mm=float(3.0 + 3.5 * age + rng.uniform(0, 2.0)),
        cortex_mm=float(rng.uniform(3.0, 4.0)),
        asymmetry_mm=float(rng.normal(0, 1.5)),
    )


@dataclass(frozen=True, slots=True)
class Head:
    """Rendered anatomy. Distances to surfaces are in mm; ``depth_mm`` is positive in the brain."""

    fractions_LIJK: FloatArray
    brain_IJK: NDArray[np.bool_]
    depth_mm: FloatArray
    ventricle_mm: FloatArray
    cerebrum_mm: FloatArray


def _mirror(points_CIJK: FloatArray) -> FloatArray:
    """Fold the left half on the right, so that one drawing serves both sides."""
    return np.stack([np.abs(points_CIJK[0]), points_CIJK[1], points_CIJK[2]])


def _outer_surfaces(folded: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Signed distances of cerebrum, cerebellum, brain stem, and of the part that has gyri."""
    hemispheres = ellipsoid(folded, (0, 0, 6), (66, 78, 57))
    base = -16 - 0.06 * folded[1] - folded[2]
    cerebrum = -smooth_union([-hemispheres, -base], 4.0)
    temporal = ellipsoid(folded, (40, -8, -22), (20, 36, 21))
    cerebellum = ellipsoid(folded, (20, 44, -34), (30, 32, 23))
    stem = tube(folded, [(0, 10, -14), (0, 16, -34), (0, 22, -58)], [14, 13, 9])
    convex = np.minimum(np.minimum(hemispheres, temporal), cerebellum)
    return smooth_union([cerebrum, temporal], 3.0), cerebellum, stem, convex


def _ventricles(folded: FloatArray, radius: float) -> FloatArray:
    body: list[Point] = [(7, -34, 8), (9, -14, 15), (12, 14, 16), (22, 34, 5), (23, 54, 2)]
    horn: list[Point] = [(22, 34, 5), (30, 16, -14), (29, -2, -20)]
    lateral = tube(folded, body, [radius * r for r in (0.75, 0.9, 0.8, 1.2, 0.5)])
    temporal = tube(folded, horn, [radius * r for r in (0.8, 0.4, 0.3)])
    third = ellipsoid(folded, (0, 2, -1), (1.2 + 0.25 * radius, 14, 9))
    fourth = ellipsoid(folded, (0, 30, -36), (5, 4, 8))
    return smooth_union([lateral, temporal, third, fourth], 1.0)


def _deep_grey(folded: FloatArray) -> FloatArray:
    thalamus = ellipsoid(folded, (11, 7, 3), (8, 14, 9))
    caudate = tube(folded, [(14, -26, 6), (17, -8, 17), (20, 12, 18)], [6.5, 4.5, 2.5])
    putamen = ellipsoid(folded, (27, -5, 0), (6, 17, 10))
    return np.minimum(np.minimum(thalamus, caudate), putamen)


def _sulci_mm(rng: np.random.Generator, points: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """Distance to the nearest sulcus: zero sheets of a field that hardly changes with depth.

    Taking the field at points drawn out to the surface makes the sheets run inwards, as sulci do.
    """
    size = depth_mm.shape[0]
    spacing = HEAD_MM / size
    radius = np.sqrt(np.sum((points / np.reshape((66, 78, 57), (3, 1, 1, 1))) ** 2, axis=0))
    outwards = points / np.maximum(radius, 0.35) ** 0.75
    field = random_field_at(rng, outwards, 7.5)
    slope = np.sqrt(sum(g**2 for g in np.gradient(field, spacing)))
    sheet = np.abs(field) / np.maximum(slope, 0.12)
    reach = 15 + 4 * random_field(rng, size, 30.0)
    return np.asarray(np.hypot(sheet, np.maximum(depth_mm - reach, 0.0)))


def _vessels(rng: np.random.Generator, folded: FloatArray, pial_mm: FloatArray) -> FloatArray:
    """Signed distance to vessels: crossings of two sheets near the surface, and a few main ones."""
    size = pial_mm.shape[0]
    spacing = HEAD_MM / size
    squared = np.zeros_like(pial_mm)
    for _ in range(2):
        field = random_field(rng, size, 13.0)
        slope = np.sqrt(sum(g**2 for g in np.gradient(field, spacing)))
        squared += (field / np.maximum(slope, 0.05)) ** 2
    small = np.maximum(np.sqrt(squared) - 1.6, np.abs(pial_mm) - 4.0)
    middle = tube(folded, [(6, -14, -17), (28, -14, -9), (48, -2, 0)], [1.8, 1.8, 1.2])
    vein = tube(folded, [(0, 20, 12), (0, 38, 12), (0, 62, 18)], [1.5, 2.0, 2.5])
    return np.minimum(np.minimum(small, middle), vein)


def _gliosis_mm(
    rng: np.random.Generator, patient: Patient, folded: FloatArray, ventricle_mm: FloatArray
) -> FloatArray:
    """Bright white matter of normal ageing: caps and bands along the ventricles, and spots."""
    size = ventricle_mm.shape[0]
    tips = np.minimum(
        ellipsoid(folded, (10, -34, 10), (6, 6, 6)), ellipsoid(folded, (24, 50, 5), (7, 9, 7))
    )
    band = 2.0 + 3.0 * patient.age + 1.3 * random_field(rng, size, 12.0)
    caps = np.maximum(ventricle_mm - (band + 1.5), tips - 1 - 2 * patient.age)
    # Little between the two sides and along thin horns, or the lining would be a blob, as a tumour.
    along = np.clip((folded[0] - 3) / 4, 0, 1)
    along *= np.clip((46 - folded[1]) / 20, 0, 1) * np.clip((folded[2] + 10) / 14, 0, 1)
    lining = ventricle_mm - (band * along - 1.0 * (1 - along))
    spots = 1.8 - 0.5 * patient.age - random_field(rng, size, 4.0)
    near = np.maximum(spots * 3.0, ventricle_mm - 26)
    return np.asarray(np.minimum.reduce([caps, lining, near]))


def render_head(rng: np.random.Generator, patient: Patient, points_CIJK: FloatArray) -> Head:
    """Tissue fractions of a healthy head at the given points (mm); they add up to 1 in the brain.

    ``points_CIJK`` is the voxel grid for the outer surface; a caller may have moved the points
    inside it (mass effect).
    """
    size = points_CIJK.shape[1]
    spacing = HEAD_MM / size
    warp = np.stack([random_field(rng, size, 45.0) for _ in range(3)]) * 2.0
    still = (grid_CIJK(size) + warp) / np.reshape(patient.scale, (3, 1, 1, 1))
    inner = (points_CIJK + warp) / np.reshape(patient.scale, (3, 1, 1, 1))
    inner[0] += patient.asymmetry_mm * np.exp(-((inner[0] / 30) ** 2))
    folded = _mirror(inner)

    cerebrum, cerebellum, stem, convex = _outer_surfaces(_mirror(still))
    depth = -np.minimum(np.minimum(cerebrum, cerebellum), stem)
    fissure_depth = np.maximum(-ellipsoid(folded, (0, 4, 4), (40, 46, 26)), 0.0)
    fissure = np.hypot(folded[0], fissure_depth)
    sylvian = ellipsoid(folded, (52, -4, -3), (20, 26, 1.2))
    widen = 0.4 + 0.6 * patient.age
    sulci = np.where(stem < np.minimum(cerebrum, cerebellum), 99.0, _sulci_mm(rng, inner, -convex))
    pial = np.minimum(np.minimum(depth - 0.5, sulci - widen), np.minimum(fissure - 1.0, sylvian))

    ventricle = _ventricles(folded, patient.ventricle_mm) + 0.8 * random_field(rng, size, 14.0)
    in_stem = share_inside(np.maximum(stem, -np.minimum(cerebrum, cerebellum) - 4), spacing)
    tissue = share_inside(-pial, spacing)
    white = share_inside(patient.cortex_mm - pial, spacing)
    white = np.maximum(white, tissue * in_stem)
    deep = 0.8 * share_inside(_deep_grey(folded), spacing)
    white = np.minimum(white, tissue) * (1 - deep)
    cavity = share_inside(ventricle, spacing)
    plexus = np.maximum(ellipsoid(folded, (21, 30, 6), (4, 9, 4)), ventricle)
    vessel = share_inside(_vessels(rng, folded, pial), spacing)
    bright = share_inside(_gliosis_mm(rng, patient, folded, ventricle), spacing)

    parts = {name: np.zeros_like(depth) for name in TISSUE_NAMES}
    parts["gliosis"] = bright * white * (1 - cavity)
    parts["white"] = (1 - bright) * white * (1 - cavity)
    parts["grey"] = (tissue - white).clip(0) * (1 - cavity)
    parts["choroid"] = 0.7 * share_inside(plexus, spacing) * cavity
    parts["csf"] = 1 - np.sum(list(parts.values()), axis=0)
    fractions = np.stack(list(parts.values())) * (1 - vessel)
    fractions[TISSUE_NAMES.index("vessel")] += vessel
    return Head(fractions, depth > -1.2, depth, ventricle, cerebrum)
