"""Pictures of heads, each with details of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def draw_heads(count: int, edge: int, seed: int = 0) -> list[NDArray[np.float64]]:
    """Levels from 0 to 255 of square pictures."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:edge, :edge] / edge - 0.5
    made = []
    for _ in range(count):
        radius = np.hypot(rows / random.uniform(0.8, 1), columns / random.uniform(0.65, 0.8))
        texture = gaussian_filter(random.normal(size=(edge, edge)), edge / 50)
        head = (radius < 0.45) * (110 + 40 * texture / texture.std())
        made.append(np.clip(head + (np.abs(radius - 0.45) < 0.02) * 90, 0, 255))
    return made
