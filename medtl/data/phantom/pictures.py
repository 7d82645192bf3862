"""Slices of the phantom as pictures of 8 bits, each site with a display of its own.

Axes: I left, J posterior, K superior; R rows (down) and Q columns (right) of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Left to right, front to back, bottom to top: the axis that a plane is perpendicular to.
SAGITTAL, CORONAL, AXIAL = range(3)


_DISPLAYS = 7  #: random stream, beside those of medtl.data.phantom.brats_layout


#: Share of the brain's voxels that may be brighter than white.
WHITE_PERCENTILE = 99.7


@dataclass(frozen=True, slots=True)
class Display:
    """How a site stores its pictures: brightness and gamma, how large, with how wide margins."""

    gain: float
    gamma: float
    scale: float  #: of the edge, in pixels
    margin: float  #: added to each side, as a share of the edge


def display_of(seed: int, site: int, shift: float) -> Display:
    """``shift`` 0: the same for all sites, full brightness, one pixel per voxel, no margins."""
    rng = np.random.default_rng([seed, _DISPLAYS, site])
    return Display(
        gain=float(np.exp(-shift * rng.uniform(0, 0.5))),
        gamma=float(np.exp(shift * rng.uniform(-0.4, 0.4))),
        scale=float(np.exp(shift * rng.uniform(0, 0.6))),
        margin=float(shift * rng.uniform(0, 0.12)),
    )


def levels_IJK(image_IJK: NDArray[np.int16], display: Display) -> NDArray[np.uint8]:
    """A volume (0 outside the brain) as levels of 0 to 255, windowed as a whole."""
    white = float(np.percentile(image_IJK[image_IJK > 0], WHITE_PERCENTILE))
    shown = np.clip(image_IJK / white, 0, 1) ** display.gamma
    return np.rint(255 * display.gain * shown).astype(np.uint8)


def slice_RQ(volume_IJK: NDArray[Any], plane: int, place: int) -> NDArray[Any]:
    """One slice as it is looked at: front or top up, the patient's right at the left."""
    across: NDArray[Any] = np.take(volume_IJK, place, axis=plane).T
    return across if plane == AXIAL else across[::-1]


def framed(levels_RQ: NDArray[np.uint8], display: Display) -> NDArray[np.uint8]:
    """The picture in the site's size, with its margins."""
    from PIL import Image

    rows, columns = levels_RQ.shape
    size = round(columns * display.scale), round(rows * display.scale)
    resized = Image.fromarray(levels_RQ).resize(size, Image.Resampling.BICUBIC)
    edge = round(display.margin * max(size))
    return np.pad(np.asarray(resized), edge)
