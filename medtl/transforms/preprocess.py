"""From native arrays to a network's input, by a preset.

Axes: C modality, L region, I J K voxels (right-anterior-superior after preprocessing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.data.io.geometry import orient, to_ras
from medtl.data.io.grids import bounding_box, resample
from medtl.data.voxel_size import axes_mm, thick_axis
from medtl.errors import DataError
from medtl.transforms.intensity import (
    blurred,
    imagenet_levels,
    n4_correct,
    scale_levels,
    white_of,
    zscore_in_brain,
)
from medtl.transforms.nnunet import NnunetRecipe, placed, prepare_nnunet
from medtl.transforms.presets import Preset


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prepared image lies in its native grid (whose axes may be flipped or swapped).

    Its axes are right, front, up, but of a preset for nnU-Net's checkpoints.
    """

    shape: tuple[int, ...]  #: native voxels
    start: tuple[int, ...]  #: first voxel of the brain box, in RAS order
    size: tuple[int, ...]  #: voxels of the brain box, in RAS order
    axes: tuple[int, int, int]  #: RAS axis i is native axis axes[i]
    flips: tuple[bool, bool, bool]  #: RAS axis i runs against its native axis
    slices: int | None = None  #: RAS axis along which the prepared grid has thick slices


def prepare(
    image_CIJK: NDArray[np.float32],
    covered_CIJK: NDArray[np.bool_],
    target_LIJK: NDArray[np.bool_] | None,
    affine: NDArray[np.float64],
    preset: Preset,
    modalities: Sequence[str] = (),
    stored: Sequence[np.dtype[Any]] = (),
    unknown_LIJK: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Native arrays -> ``{"image": float32 CIJK, "target": uint8 LIJK, "placement": Placement}``.

    With a target also ``lost`` (bool L): regions that the native grid shows and this one does not,
    and, where given, ``unknown`` (uint8 LIJK): 1 for what takes anything from an unknown voxel.

    Orientation to RAS, crop to the brain, the preset's histogram standard, percentile clipping and
    z-score where the image covers the brain (0 elsewhere), and resampling to ``preset.spacing_mm``
    or into ``preset.size``.

    Args:
        covered_CIJK: where each image covers the brain: slabs often miss a side of the head. One
            mask (C = 1) may serve all modalities.
        modalities: which of the preset's windows and standards belongs to each channel (C).
        stored: how each channel's file stores it (C), which says what level is white.
    """
    axes, flips = to_ras(affine)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
    crop = bounding_box(orient(np.logical_or.reduce(covered_CIJK), axes, flips))
    assert crop is not None  # no mask of a readable image is empty
    native = image_CIJK.shape[1:]
    names = modalities or [""] * len(image_CIJK)
    types = stored or [image_CIJK.dtype] * len(image_CIJK)
    image_CIJK, covered_CIJK = (
        orient(array_CIJK, axes, flips)[(slice(None), *crop)]
        for array_CIJK in (image_CIJK, np.broadcast_to(covered_CIJK, image_CIJK.shape))
    )
    scaled = _scaled(image_CIJK, covered_CIJK, preset, names, types, spacing_mm)
    size = image_CIJK.shape[1:]
    shape = prepared_shape(size, spacing_mm, preset)
    slices = None if preset.fits else thick_axis(preset.spacing_mm)
    image = torch.from_numpy(stacked(scaled))
    if tuple(size) != shape:
        image = resample(image, shape, slices)
    start = tuple(side.start for side in crop)
    prepared: dict[str, Any] = {
        "image": blurred(image) if preset.head else image,
        "placement": Placement(native, start, size, axes, flips, slices),
    }
    if target_LIJK is not None:
        prepared |= _target(target_LIJK, unknown_LIJK, axes, flips, crop, shape, slices)
    return prepared


def stacked(channels: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """CIJK; of a single channel without a copy."""
    return channels[0][None] if len(channels) == 1 else np.stack(channels)


def prepare_as_nnunet(
    image_CIJK: NDArray[np.float32],
    affine: NDArray[np.float64],
    target_LIJK: NDArray[np.bool_] | None,
    preset: Preset,
    recipe: NnunetRecipe,
    unknown_LIJK: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """:func:`prepare` by the plans of an nnU-Net; a target goes to the nearest voxels."""
    axes, flips = placed(recipe, affine)
    image, box, slices = prepare_nnunet(image_CIJK, affine, recipe, axes_mm(preset.spacing_mm))
    start, size = tuple(s.start for s in box), tuple(s.stop - s.start for s in box)
    prepared: dict[str, Any] = {
        "image": image,
        "placement": Placement(image_CIJK.shape[1:], start, size, axes, flips, slices),
    }
    if target_LIJK is not None:
        shape = tuple(image.shape[1:])
        prepared |= _target(target_LIJK, unknown_LIJK, axes, flips, box, shape, slices)
    return prepared


def _target(
    target_LIJK: NDArray[np.bool_],
    unknown_LIJK: NDArray[np.bool_] | None,
    axes: Sequence[int],
    flips: Sequence[bool],
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    slices: int | None,
) -> dict[str, Tensor]:
    """The regions on the prepared grid, and which of them it does not show."""

    def placed_share(masks_LIJK: NDArray[np.bool_]) -> Tensor:
        cropped = orient(masks_LIJK, axes, flips)[(slice(None), *box)]
        return resample(torch.from_numpy(np.array(cropped, np.float32, order="C")), shape, slices)

    held_L = torch.from_numpy(target_LIJK.reshape(len(target_LIJK), -1).any(1))
    shown_LIJK = placed_share(target_LIJK) >= 0.5
    found = {"target": shown_LIJK.to(torch.uint8), "lost": held_L & ~shown_LIJK.flatten(1).any(1)}
    if unknown_LIJK is not None:
        found["unknown"] = (placed_share(unknown_LIJK) > 0).to(torch.uint8)
    return found


def _scaled(
    image_CIJK: NDArray[np.float32],
    covered_CIJK: NDArray[np.bool_],
    preset: Preset,
    names: Sequence[str],
    types: Sequence[np.dtype[Any]],
    spacing_mm: NDArray[np.float64],
) -> list[NDArray[np.float32]]:
    """The channels with the preset's intensities.

    Raises:
        DataError: the case shows nothing. One slice of a picture set may show nothing in one
            channel: at the end of a dark scan all but a few of its pixels are black.
    """
    windows = dict(preset.windows)
    channels: list[NDArray[np.float32]] = []
    for channel_IJK, covered_IJK, name, held in zip(
        image_CIJK, covered_CIJK, names, types, strict=True
    ):
        if preset.n4:
            channel_IJK = n4_correct(channel_IJK, covered_IJK, spacing_mm)
        if preset.standard:
            channel_IJK = preset.standard.apply(name, channel_IJK, covered_IJK)
        if preset.scaling == "zscore":
            channel_IJK = zscore_in_brain(channel_IJK, covered_IJK, windows.get(name))
        else:
            colour = imagenet_levels(len(channels), len(image_CIJK))
            statistics = colour if preset.scaling == "imagenet" else None
            channel_IJK = scale_levels(channel_IJK, white_of(held, channel_IJK), statistics)
        channels.append(channel_IJK)
    varies = [channel_IJK.any() for channel_IJK in channels]
    if preset.scaling == "zscore" and not (any(varies) if preset.fits else all(varies)):
        raise DataError("every voxel in the brain has the same value; leave out the case")
    return channels


def prepared_shape(
    size: Sequence[int], spacing_mm: Sequence[float] | NDArray[np.float64], preset: Preset
) -> tuple[int, int, int]:
    """Voxels per axis of a prepared box of ``size`` voxels."""
    extent_mm = [n * float(mm) for n, mm in zip(size, spacing_mm, strict=True)]
    if preset.fits:
        factor = min(edge / mm for edge, mm in zip(preset.size, extent_mm, strict=False))
        edges = [mm * factor for mm in extent_mm[: len(preset.size)]]
    else:
        wanted_mm = axes_mm(preset.spacing_mm)
        edges = [mm / wanted for mm, wanted in zip(extent_mm, wanted_mm, strict=True)]
    i, j, k = (*(max(1, round(edge)) for edge in edges), *size[len(edges) :])
    return i, j, k
