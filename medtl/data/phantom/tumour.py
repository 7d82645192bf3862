"""Tumours: where, how large, of what shape, and how they replace the tissue below them.

Axes: C the 3 coordinates (left, posterior, superior; mm), L tissue, I J K the voxel grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.data.phantom.anatomy import Head
from medtl.data.phantom.fields import HEAD_MM, FloatArray, grid_CIJK, random_field, share_inside
from medtl.data.phantom.physics import TISSUE_NAMES

#: BraTS labels up to 2021.
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Tumour:
    """One lesion: overlapping lobes, a core inside, oedema around; mm in patient coordinates."""

    lobes_mm: tuple[tuple[float, float, float, float], ...]  #: centre and radius of each lobe
    core_share: float  #: radius of the core over the radius of the whole
    rim_mm: float  #: thickness of the enhancing rim; 0 for a tumour that does not enhance
    infiltration: float  #: how much of the oedema's edge is oedema, 0 to 1


def draw_tumours(rng: np.random.Generator, count: int) -> tuple[Tumour, ...]:
    """``count`` lesions in the cerebral white matter, the first the largest."""
    tumours: list[Tumour] = []
    while len(tumours) < count:
        side = rng.choice((-1.0, 1.0))
        centre = np.array([side * rng.uniform(18, 42), rng.uniform(-45, 48), rng.uniform(-2, 38)])
        radius = rng.uniform(22, 34) if not tumours else rng.uniform(17, 21)
        if np.sum((centre / (52, 66, 48)) ** 2) > 1:
            continue
        others = [t.lobes_mm[0] for t in tumours]
        if any(np.linalg.norm(centre - other[:3]) < radius + other[3] for other in others):
            continue
        lobes = [(*centre.tolist(), float(radius))]
        for _ in range(int(rng.integers(1, 4))):
            step = rng.normal(0, 1, 3)
            step *= 0.6 * radius / np.linalg.norm(step)
            lobes.append((*(centre + step).tolist(), float(radius * rng.uniform(0.45, 0.75))))
        enhances = rng.random() < 0.85
        tumours.append(
            Tumour(
                lobes_mm=tuple(lobes),
                core_share=float(rng.uniform(0.42, 0.68)),
                rim_mm=float(rng.uniform(4.0, 8.0)) if enhances else 0.0,
                infiltration=float(rng.uniform(0.75, 0.92)),
            )
        )
    return tuple(tumours)


def push_aside(points_CIJK: FloatArray, tumours: tuple[Tumour, ...]) -> FloatArray:
    """Mass effect: points from which the anatomy is read, so that tissue moves away from cores."""
    moved = points_CIJK.copy()
    for tumour in tumours:
        *centre, radius = tumour.lobes_mm[0]
        offset = points_CIJK - np.reshape(centre, (3, 1, 1, 1))
        reach = 1.1 * radius
        strength = 0.35 * tumour.core_share * np.exp(-np.sum(offset**2, axis=0) / reach**2)
        moved -= offset * strength
    return moved


def _lobes_mm(tumour: Tumour, points: FloatArray) -> FloatArray:
    """Depth inside the union of a tumour's lobes in mm, negative outside."""
    depth = np.full(points.shape[1:], -np.inf)
    for *centre, radius in tumour.lobes_mm:
        offset = points - np.reshape(centre, (3, 1, 1, 1))
        depth = np.maximum(depth, radius - np.sqrt(np.sum(offset**2, axis=0)))
    return depth


def add_tumours(
    rng: np.random.Generator, head: Head, tumours: tuple[Tumour, ...]
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Fractions with the tumours in, and the BraTS labels of each voxel's larger part."""
    size = head.depth_mm.shape[0]
    spacing = HEAD_MM / size
    points = grid_CIJK(size)
    fractions = head.fractions_LIJK.copy()
    labels = np.zeros(head.depth_mm.shape, dtype=np.uint8)
    row = {name: i for i, name in enumerate(TISSUE_NAMES)}
    white = fractions[row["white"]] + fractions[row["gliosis"]]
    may_grow = np.minimum.reduce([head.depth_mm - 1.0, head.ventricle_mm - 0.5, -head.cerebrum_mm])

    for tumour in tumours:
        radius = tumour.lobes_mm[0][3]
        lobes = _lobes_mm(tumour, points)
        bumps = 2.5 * random_field(rng, size, 16.0) + 0.6 * random_field(rng, size, 8.0)
        # Oedema spreads along white matter, in fingers; the core grows through everything.
        whole = np.minimum(lobes + bumps - 3.0 * (1 - white), may_grow)
        ragged = 2.0 * random_field(rng, size, 10.0)
        core = np.minimum(lobes - radius * (1 - tumour.core_share) + ragged, may_grow - 1.0)
        whole = np.maximum(whole, core)
        rim = tumour.rim_mm * np.exp(0.35 * random_field(rng, size, 12.0))
        patchy = 0.85 + 0.15 * np.tanh(random_field(rng, size, 9.0))

        edge = tumour.infiltration
        swelling = (edge + (1 - edge) * np.clip(whole / 8.0, 0, 1)) * patchy
        inside = share_inside(-whole, spacing)
        replaced = inside * swelling
        in_core = share_inside(-core, spacing)
        fractions *= 1 - replaced
        fractions[row["oedema"]] += replaced
        fractions *= 1 - in_core
        if tumour.rim_mm:
            dead = share_inside(rim - core, spacing)
            fractions[row["necrosis"]] += in_core * dead
            fractions[row["enhancing"]] += in_core * (1 - dead)
        else:
            dead = np.ones_like(core)
            fractions[row["solid"]] += in_core

        grown = (inside > 0.5) & head.brain_IJK
        labels[grown & (labels == 0)] = OEDEMA
        in_core_mask = grown & (in_core > 0.5)
        labels[in_core_mask] = np.where(dead[in_core_mask] > 0.5, NECROSIS, ENHANCING)
    return fractions, labels


#: Semi-axes of the surface of the cerebrum, above its base.
_SURFACE_MM = (62.0, 74.0, 58.0)


_BASE_MM = 8.0  #: height from which on a meningioma may grow


#: A rim as thick as this fills any core.
_SOLID_MM = 99.0


def draw_meningioma(rng: np.random.Generator) -> tuple[Tumour, ...]:
    """One tumour at the convexity that pushes the brain inwards, with little oedema."""
    while True:
        direction = rng.normal(0, 1, 3)
        direction /= np.linalg.norm(direction)
        centre = 0.86 * np.asarray(_SURFACE_MM) * direction + np.array([0.0, 0.0, 6.0])
        if centre[2] > _BASE_MM:
            return (_solid(rng, centre, float(rng.uniform(13, 22)), core_share=0.85),)


def draw_pituitary(rng: np.random.Generator) -> tuple[Tumour, ...]:
    """One tumour in the midline above the sella, without oedema."""
    centre = np.array([rng.normal(0, 1.5), rng.uniform(-18, -12), rng.uniform(-9, -5)])
    return (_solid(rng, centre, float(rng.uniform(10, 15)), core_share=0.95),)


def _solid(
    rng: np.random.Generator, centre: FloatArray, radius: float, core_share: float
) -> Tumour:
    x, y, z = centre.tolist()
    return Tumour(
        lobes_mm=((x, y, z, radius),),
        core_share=core_share,
        rim_mm=_SOLID_MM,
        infiltration=float(rng.uniform(0.75, 0.92)),
    )
