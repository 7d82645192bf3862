"""Preprocessing as nnU-Net v2 does it, for its checkpoints (Isensee et al. 2021).

Crop to what is not 0, normalise each channel, resample by cubic splines; where slices are thick,
within the slices first and to the nearest slice then. The axes are nnU-Net's: those of the stored
image backwards, whatever its orientation.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, zoom

from medtl.data.io.geometry import orient, to_ras
from medtl.data.io.grids import bounding_box, nearest_slices
from medtl.data.voxel_size import THICK
from medtl.errors import DataError

Image = NDArray[np.float32]

#: Deviations below this count as this.
_LEAST_DEVIATION = 1e-8


@dataclass(frozen=True, slots=True)
class NnunetRecipe:
    """What nnU-Net's plans say, per channel where a sequence."""

    schemes: tuple[str, ...]  #: classes that normalise
    masked: tuple[bool, ...]  #: normalised where the image is not 0 alone
    windows: tuple[tuple[float, ...], ...]  #: of CT: low, high, mean, deviation
    transpose: tuple[int, int, int]
    reorient: bool  #: to RAS before anything else
    order: int  #: of the splines
    mirror: tuple[int, ...]  #: axes that test-time flips may mirror

    def to_json(self) -> dict[str, Any]:
        return {
            key: [list(each) if isinstance(each, tuple) else each for each in value]
            if isinstance(value, tuple)
            else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> NnunetRecipe:
        """Raises ValueError, TypeError or LookupError for damaged records."""
        i, j, k = map(int, recorded["transpose"])
        if sorted((i, j, k)) != [0, 1, 2]:
            raise ValueError("nnunet: transpose must name each axis once")
        return cls(
            schemes=tuple(map(str, recorded["schemes"])),
            masked=tuple(map(bool, recorded["masked"])),
            windows=tuple(tuple(map(float, window)) for window in recorded["windows"]),
            transpose=(i, j, k),
            reorient=bool(recorded["reorient"]),
            order=min(5, max(0, int(recorded["order"]))),
            mirror=tuple(axis for axis in map(int, recorded["mirror"]) if 0 <= axis < 3),
        )


def placed(
    recipe: NnunetRecipe, affine: NDArray[np.float64]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which stored axis is which of nnU-Net's, and whether it runs backwards."""
    axes, flips = to_ras(affine) if recipe.reorient else ((0, 1, 2), (False,) * 3)
    i, j, k = (2 - axis for axis in recipe.transpose)
    return (axes[i], axes[j], axes[k]), (flips[i], flips[j], flips[k])


def prepare_nnunet(
    image_CIJK: Image, affine: NDArray[np.float64], recipe: NnunetRecipe, wanted_mm: Sequence[float]
) -> tuple[torch.Tensor, tuple[slice, ...], int | None]:
    """The prepared image (CIJK), the box it was cropped to, and the axis of thick slices.

    Raises:
        DataError: the image is 0 everywhere.
    """
    axes, flips = placed(recipe, affine)
    turned_CIJK = orient(image_CIJK, axes, flips)
    shown_IJK = binary_fill_holes((turned_CIJK != 0).any(0))
    box = bounding_box(shown_IJK)
    if box is None:
        raise DataError("every voxel is 0; leave out the case")
    shown_IJK = shown_IJK[box]
    native_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
    pairs = list(zip(shown_IJK.shape, native_mm, wanted_mm, strict=True))
    shape = tuple(max(1, round(n * float(mm) / wanted)) for n, mm, wanted in pairs)
    slices = thick_slices(native_mm, wanted_mm)
    channels = []
    for n, channel_IJK in enumerate(turned_CIJK):
        cropped_IJK = np.array(channel_IJK[box], dtype=np.float32, order="C")
        mask_IJK = shown_IJK if recipe.masked[n] else None
        scaled_IJK = _normalised(cropped_IJK, recipe.schemes[n], mask_IJK, recipe.windows[n])
        channels.append(_resampled(scaled_IJK, shape, recipe.order, slices))
    return torch.from_numpy(np.stack(channels)), box, slices


def thick_slices(*spacings_mm: Sequence[float] | NDArray[np.float64]) -> int | None:
    """The axis of thick slices of the first grid that has them."""
    for edges_mm in spacings_mm:
        if max(edges_mm) > THICK * min(edges_mm):
            longest = [axis for axis, mm in enumerate(edges_mm) if mm == max(edges_mm)]
            return longest[0] if len(longest) == 1 else None
    return None


def _normalised(
    image_IJK: Image, scheme: str, mask_IJK: NDArray[np.bool_] | None, window: tuple[float, ...]
) -> Image:
    if scheme == "CTNormalization":
        low, high, mean, deviation = window
        clipped_IJK = np.clip(image_IJK, low, high)
        return _scaled(clipped_IJK, mean, deviation)
    if scheme == "ZScoreNormalization":
        values = image_IJK if mask_IJK is None else image_IJK[mask_IJK]
        scored = _scaled(values, float(values.mean()), float(values.std()))
        if mask_IJK is None:
            return scored
        scored_IJK = image_IJK.copy()
        scored_IJK[mask_IJK] = scored
        return scored_IJK
    if scheme == "RescaleTo01Normalization":
        low = float(image_IJK.min())
        return _scaled(image_IJK, low, float(image_IJK.max()) - low)
    return _scaled(image_IJK, 0.0, 255.0) if scheme == "RGBTo01Normalization" else image_IJK


def _scaled(image: Image, offset: float, unit: float) -> Image:
    return np.asarray((image - np.float32(offset)) / np.float32(max(unit, _LEAST_DEVIATION)))


def _resampled(image_IJK: Image, shape: Sequence[int], order: int, slices: int | None) -> Image:
    """By splines, values kept within those of the image."""
    if image_IJK.shape == tuple(shape):
        return image_IJK
    if slices is None:
        return _zoomed(image_IJK, shape, order)
    stack = np.moveaxis(image_IJK, slices, 0)
    within = [edge for axis, edge in enumerate(shape) if axis != slices]
    moved = np.stack([_zoomed(slice_IJ, within, order) for slice_IJ in stack])
    moved = moved[nearest_slices(len(moved), shape[slices])]
    return np.ascontiguousarray(np.moveaxis(moved, 0, slices))


def _zoomed(image: Image, shape: Sequence[int], order: int) -> Image:
    if image.shape == tuple(shape):
        return image
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    exact = image.astype(np.float64)
    moved = zoom(exact, factors, order=order, mode="nearest", grid_mode=True)
    return np.asarray(np.clip(moved, exact.min(), exact.max()), dtype=np.float32)
