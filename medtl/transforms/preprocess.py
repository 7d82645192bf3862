"""Named presets: deterministic preparation of a case, and the augmentation that goes with it.

Axes: C modality, L region, I J K voxels (right-anterior-superior after preparation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medtl.data.io.grids import box, orient, resample, to_ras
from medtl.errors import DataError
from medtl.transforms.intensity import (
    blurred,
    imagenet_levels,
    n4_correct,
    scale_levels,
    white_of,
    zscore_in_brain,
)
from medtl.transforms.presets import Preset


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prepared image lies in its native grid (whose axes may be flipped or swapped)."""

    shape: tuple[int, int, int]  #: native voxels
    start: tuple[int, int, int]  #: first voxel of the brain box, in RAS order
    size: tuple[int, int, int]  #: voxels of the brain box, in RAS order
    axes: tuple[int, int, int]  #: RAS axis i is native axis axes[i]
    flips: tuple[bool, bool, bool]  #: RAS axis i runs against its native axis


def prepare(
    image_CIJK: NDArray[np.float32],
    covered_CIJK: NDArray[np.bool_],
    target_LIJK: NDArray[np.bool_] | None,
    affine: NDArray[np.float64],
    preset: Preset,
    modalities: Sequence[str] = (),
    stored: Sequence[np.dtype[Any]] = (),
) -> dict[str, Any]:
    """Native arrays -> ``{"image": float32 CIJK, "target": uint8 LIJK, "placement": Placement}``.

    Orientation to RAS, crop to the brain, where the preset has one the standard of each modality,
    percentile clipping and z-score where it covers the brain (0 elsewhere), resampling to
    ``preset.spacing_mm`` or into ``preset.size``.
    ``covered_CIJK`` tells where; slabs often miss a side of the head. One mask for all modalities
    may have C = 1.
    ``modalities`` (C) tell which of the preset's windows and standards belongs to which channel,
    ``stored`` (C) how its file holds it: which level is white.
    """
    axes, flips = to_ras(affine)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
    start, size = box(orient(np.logical_or.reduce(covered_CIJK), axes, flips))
    crop = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    channels: list[NDArray[np.float32]] = []
    by_name = dict(preset.windows)
    names = modalities or [""] * len(image_CIJK)
    types = stored or [image_CIJK.dtype] * len(image_CIJK)
    covers = np.broadcast_to(covered_CIJK, image_CIJK.shape)
    for *native, name, held in zip(image_CIJK, covers, names, types, strict=True):
        channel_IJK, covered_IJK = (orient(array_IJK, axes, flips)[crop] for array_IJK in native)
        if preset.n4:
            channel_IJK = n4_correct(channel_IJK, covered_IJK, spacing_mm)
        if preset.standard:
            channel_IJK = preset.standard.apply(name, channel_IJK, covered_IJK)
        if preset.scaling == "zscore":
            scaled_IJK = zscore_in_brain(channel_IJK, covered_IJK, by_name.get(name))
        else:
            colour = imagenet_levels(len(channels), len(image_CIJK))
            statistics = colour if preset.scaling == "imagenet" else None
            scaled_IJK = scale_levels(channel_IJK, white_of(held, channel_IJK), statistics)
        channels.append(scaled_IJK)
    if preset.scaling == "zscore":
        _refuse_flat(channels, preset)
    shape = prepared_shape(size, spacing_mm, preset)
    image = resample(torch.from_numpy(np.stack(channels)), shape)
    prepared: dict[str, Any] = {
        "image": blurred(image) if preset.head else image,
        "placement": Placement(brain_shape(image_CIJK), start, size, axes, flips),
    }
    if target_LIJK is not None:
        cropped = np.stack([orient(region, axes, flips)[crop] for region in target_LIJK])
        share = resample(torch.from_numpy(cropped.astype(np.float32)), shape)
        prepared["target"] = (share >= 0.5).to(torch.uint8)
    return prepared


def _refuse_flat(scored: Sequence[NDArray[np.float32]], preset: Preset) -> None:
    """DataError for a case that shows nothing. A slice of a picture set may show nothing in one
    channel: at the end of a dark scan all but a few of its pixels are black."""
    varies = [channel_IJK.any() for channel_IJK in scored]
    if not (any(varies) if preset.fits else all(varies)):
        raise DataError("every voxel in the brain has the same value; leave out the case")


def brain_shape(image_CIJK: NDArray[np.float32]) -> tuple[int, int, int]:
    _, i, j, k = image_CIJK.shape
    return i, j, k


def prepared_shape(
    size: Sequence[int], spacing_mm: Sequence[float] | NDArray[np.float64], preset: Preset
) -> tuple[int, int, int]:
    """Voxels per axis of a prepared box of ``size`` voxels."""
    if not preset.fits:
        return resampled_shape(size, spacing_mm, preset.spacing_mm)
    extent_mm = [n * float(mm) for n, mm in zip(size, spacing_mm, strict=True)]
    factor = min(edge / mm for edge, mm in zip(preset.size, extent_mm, strict=False))
    scaled = [max(1, round(mm * factor)) for mm in extent_mm[: len(preset.size)]]
    i, j, k = (*scaled, *size[len(scaled) :])
    return i, j, k


def resampled_shape(
    size: Sequence[int], spacing_mm: Sequence[float] | NDArray[np.float64], target_mm: float
) -> tuple[int, int, int]:
    """Voxels per axis after resampling a box of ``size`` voxels; axes coarser than the target keep
    their voxels' count at least."""
    i, j, k = (
        max(1, round(n * float(mm) / target_mm)) for n, mm in zip(size, spacing_mm, strict=True)
    )
    return i, j, k


def to_native(logits_LIJK: Tensor, placement: Placement, fill: float) -> Tensor:
    """Logits on the prepared grid -> the native grid; voxels outside the brain box get ``fill``."""
    box = functional.interpolate(
        logits_LIJK[None].float(), size=placement.size, mode="trilinear", align_corners=False
    )[0]
    ras_shape = [placement.shape[axis] for axis in placement.axes]
    full = box.new_full((len(box), *ras_shape), fill)
    crop = tuple(slice(a, a + n) for a, n in zip(placement.start, placement.size, strict=True))
    full[(slice(None), *crop)] = box
    against = [1 + axis for axis, flip in enumerate(placement.flips) if flip]
    inverse = [1 + placement.axes.index(axis) for axis in range(3)]
    return full.flip(against).permute(0, *inverse).contiguous()
