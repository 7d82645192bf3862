"""Tumours that are no gliomas: sharply bounded, evenly enhancing, at the surface or at the base.

Coordinates (left, posterior, superior) in mm.
"""

from __future__ import annotations

import numpy as np

from medtl.phantom.fields import FloatArray
from medtl.phantom.tumour import Tumour

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
