"""What a data set's training images look like: decided once, and applied to every image.

Whether one exact value surrounds what an image shows is not asked image by image: the same head on
a background of 0 and on one of noise must come out alike.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.foreground import (
    above_noise,
    by_threshold,
    enclosed,
    foreground,
    off_background,
    within_uniform,
    without_specks,
)

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Intensities may leave training's range by this share of it before a warning.
BEYOND = 0.25


#: Share of the voxels that a window holds of an image on its scale.
LEAST_INSIDE = 1e-3


#: Percentiles whose range is recorded.
ENDS = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """The training images of one modality."""

    background: float | None  #: the one exact value around what they show; None: noise is there
    low: tuple[float, float]  #: smallest and largest 0.5 percentile of an image
    high: tuple[float, float]  #: smallest and largest 99.5 percentile of an image

    def to_json(self) -> dict[str, Any]:
        return {
            "background": self.background,
            "low": list(self.low),
            "high": list(self.high),
        }

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> ImageRecord:
        """Raises ValueError, TypeError or LookupError for damaged records."""
        low, high = (tuple(float(value) for value in recorded[name]) for name in ("low", "high"))
        if len(low) != 2 or len(high) != 2:
            raise ValueError("images: low and high need two values each")
        background = recorded["background"]
        background = None if background is None else float(background)
        if not all(map(isfinite, (*low, *high, background or 0.0))):
            raise ValueError("images: values that are not finite")
        return cls(background, (low[0], low[1]), (high[0], high[1]))


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as the record has it."""

    image_IJK: Image
    mask_IJK: Mask  #: what is normalised; the rest becomes 0
    differs: str = ""  #: how the image differs from the record, and what was done


def shown_as_recorded(image_IJK: Image, record: ImageRecord, *, whole: bool) -> Shown:
    """What the image shows, so that its values agree with those of the training images.

    Args:
        whole: dark noise around the patient is not cut away, where training's images have noise.
    """
    mask_IJK = within_uniform(image_IJK)
    if record.background is not None:
        return _on_uniform(image_IJK, mask_IJK)
    if mask_IJK is None:
        every_IJK = np.ones(image_IJK.shape, dtype=bool)
        return Shown(image_IJK, every_IJK if whole else foreground(image_IJK))
    differs = "its background is one value, theirs is noise"
    lifted_IJK = _lifted(image_IJK, mask_IJK)
    if not whole:
        found_IJK = by_threshold(lifted_IJK)
        return Shown(lifted_IJK, found_IJK, f"{differs}; the foreground is found by a threshold")
    every_IJK = np.ones(image_IJK.shape, dtype=bool)
    return Shown(lifted_IJK, every_IJK, f"{differs}; the background is kept, as in theirs")


def _on_uniform(image_IJK: Image, mask_IJK: Mask | None) -> Shown:
    """An image of a data set whose backgrounds have one value."""
    if mask_IJK is not None:
        clean_IJK = without_specks(image_IJK, mask_IJK)
        if clean_IJK is mask_IJK:
            return Shown(image_IJK, mask_IJK)
        noisy = "its background holds single voxels of noise; they are left out"
        return Shown(image_IJK, clean_IJK, noisy)
    theirs = "theirs is one value"
    found_IJK = above_noise(image_IJK)
    if found_IJK is None or not found_IJK.any():
        every_IJK = np.ones(image_IJK.shape, dtype=bool)
        return Shown(
            image_IJK, every_IJK, f"it has no background, {theirs}; the whole image is kept"
        )
    noise = f"its background is noise, {theirs}; what stands out from the noise is the foreground"
    return Shown(image_IJK, found_IJK, noise)


def _lifted(image_IJK: Image, mask_IJK: Mask) -> Image:
    """The image with a background that lies far below all that is shown, as -1024, set to 0.

    Or to the darkest that is shown, if that is negative.
    """
    low, high = np.percentile(image_IJK[mask_IJK], ENDS) if mask_IJK.any() else (0.0, 0.0)
    far = image_IJK < low - (high - low)
    return np.where(~mask_IJK & far, np.float32(min(low, 0.0)), image_IJK).astype(np.float32)


def within_window(image_IJK: Image, record: ImageRecord, window: tuple[float, ...]) -> Shown:
    """An image of absolute intensities (CT): every voxel counts, and air keeps its value.

    A constant padding that is brighter than what is shown gets training's value of air.
    """
    every_IJK = np.ones(image_IJK.shape, dtype=bool)
    notes = [_off_range(image_IJK, record)]
    air = record.low[0] if record.background is None else record.background
    mask_IJK = off_background(image_IJK)
    if mask_IJK is not None and mask_IJK.any() and not mask_IJK.all():
        padding = float(image_IJK.flat[int(np.argmin(mask_IJK))])
        darkest = float(np.percentile(image_IJK[mask_IJK], ENDS[0]))
        if padding > darkest and min(padding, window[1]) > max(air, window[0]):
            image_IJK = np.where(enclosed(mask_IJK), image_IJK, np.float32(air))
            notes.append(f"it is padded with {padding:g}, which is set to training's {air:g}")
    return Shown(image_IJK, every_IJK, "; ".join(filter(None, notes)))


def off_window(image_IJK: Image, window: tuple[float, ...]) -> str:
    """That hardly a voxel lies within the window; "" if some do. For want of a record."""
    low, high = window[:2]
    if np.mean((image_IJK > low) & (image_IJK < high)) >= LEAST_INSIDE:
        return ""
    return f"hardly a voxel lies within training's {low:.4g} to {high:.4g}: is it on another scale?"


def _off_range(image_IJK: Image, record: ImageRecord) -> str:
    """How the image's range differs from that of the training images; "" if it does not."""
    low, high = (float(v) for v in np.percentile(image_IJK, ENDS))
    slack = BEYOND * (record.high[1] - record.low[0])
    if low <= record.low[1] + slack and record.high[0] - slack <= high <= record.high[1] + slack:
        return ""
    return (
        f"nearly all its values lie between {low:.4g} and {high:.4g}, those of training's images "
        f"between {record.low[0]:.4g} and {record.high[1]:.4g}: is it on another scale?"
    )
