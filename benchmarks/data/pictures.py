"""Pictures of made heads, of which no two are alike: soft outlines, and details of three sizes."""

from __future__ import annotations

from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

EDGE = 128

#: Pictures that a process draws from one seed.
BATCH = 250

CLASSES = ("one", "other")


def write_pictures(folder: Path, count: int, processes: int = 2) -> Path:
    """A folder for each of two classes; the first pictures of a larger set are the same."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    batches = [(folder, start, min(BATCH, count - start)) for start in range(0, count, BATCH)]
    with Pool(processes) as pool:
        pool.starmap(_write, batches)
    return folder


def _write(folder: Path, start: int, count: int) -> None:
    random = np.random.default_rng(start)
    for number in range(start, start + count):
        picture = Image.fromarray(_drawn(random))
        picture.save(folder / CLASSES[number % 2] / f"p{number:05}.png")


def _drawn(random: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:EDGE, :EDGE] / EDGE - random.uniform(0.45, 0.55, (2, 1, 1))
    wide, long = random.uniform(0.3, 0.42, 2)
    inside = 1 / (1 + np.exp(30 * (np.hypot(rows / long, columns / wide) - 1)))
    texture = np.zeros((EDGE, EDGE))
    for width in (1.2, 3.0, 8.0):
        noise = gaussian_filter(random.normal(size=(EDGE, EDGE)), width)
        texture += random.uniform(0.5, 1) * noise / noise.std()
    return np.clip(inside * (110 + 35 * texture), 0, 255).astype(np.uint8)
