"""Named presets: deterministic preparation of a case, and the augmentation that goes with it.

Axes: C modality, L region, I J K voxels (right-anterior-superior after preparation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medtl.augment import FULL, LIGHT, NONE, PICTURE, Augmentation
from medtl.errors import DataError
from medtl.grids import box, orient, resample, to_ras
from medtl.harmonisation import Standard
from medtl.intensities import (
    CLIP_PERCENTILES,
    HEAD_BLUR,
    blurred,
    imagenet_levels,
    n4_correct,
    scale_levels,
    white_of,
    zscore_in_brain,
)

#: Raised whenever the same files and preset are prepared into other numbers than before.
VERSION = 2
#: The same, of presets that keep the levels of pictures.
LEVELS_VERSION = 3

#: z-score; 0 (black) to 1 (white); or that less ImageNet's mean, by its deviation.
Scaling = Literal["zscore", "unit", "imagenet"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Deterministic preparation (recorded in every checkpoint) and augmentation, by name."""

    name: str
    augmentation: Augmentation
    spacing_mm: float = 2.0
    n4: bool = False
    whole: bool = False  #: what no uniform value surrounds is all image; else noise is cut away
    windowed: bool = False  #: CT channels are scaled by the windows, alike in every case
    #: modality, lowest and highest intensity, mean and deviation of what lies between
    windows: tuple[tuple[str, tuple[float, ...]], ...] = ()
    fits: bool = False  #: every image, all of it, is scaled to fit into ``size``: no mm are known
    size: tuple[int, ...] = ()  #: voxels per axis; a picture's one slice has none
    scaling: Scaling = "zscore"  #: of intensities; the others are for pictures
    head: bool = False  #: cropped to the head, and all blurred alike: the picture's size is hidden
    standard: Standard | None = None  #: that intensities are brought onto before the z-score

    @property
    def version(self) -> int:
        """Of the preparation; what differs in it is prepared anew."""
        return VERSION if self.scaling == "zscore" else LEVELS_VERSION

    def at(self, spacing_mm: float) -> Preset:
        return replace(self, spacing_mm=spacing_mm)

    def through(self, windows: Mapping[str, Sequence[float]]) -> Preset:
        """With windows, by modality; other modalities are scaled case by case."""
        rows = ((name, tuple(map(float, windows[name]))) for name in sorted(windows))
        return replace(self, windows=tuple(rows))

    def onto(self, standard: Standard | None) -> Preset:
        return replace(self, standard=standard)

    def dropping(self, modality_dropout: float) -> Preset:
        """The preset for a run with this ``modality_dropout``."""
        augmentation = replace(self.augmentation, modality_dropout=modality_dropout)
        return replace(self, augmentation=augmentation)

    def into(self, size: Sequence[int]) -> Preset:
        """For images that are to fit into ``size``; a preset in mm stays as it is."""
        return replace(self, size=tuple(size)) if self.fits else self

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint records of the preparation."""
        return {
            "preset": self.name,
            "version": self.version,
            "spacing_mm": self.spacing_mm,
            "n4": self.n4,
            "clip_percentiles": list(CLIP_PERCENTILES),
            "augmentation": asdict(self.augmentation),
            **({"whole": True} if self.whole else {}),
            **({"windows": {n: list(w) for n, w in self.windows}} if self.windowed else {}),
            **({"size": list(self.size)} if self.fits else {}),
            **({"scaling": self.scaling} if self.scaling != "zscore" else {}),
            **({"head_blur": HEAD_BLUR} if self.head else {}),
            **({"harmonise": self.standard.to_json()} if self.standard else {}),
        }


def brain_mr() -> Preset:
    """RAS, crop to the brain, clip, z-score in the brain, resample; full augmentation."""
    return Preset("brain-mr", FULL)


def brain_mr_n4() -> Preset:
    """``brain-mr`` with N4 bias-field correction first (Tustison et al. 2010, by ITK)."""
    return Preset("brain-mr-n4", FULL, n4=True)


def brain_mr_light() -> Preset:
    """``brain-mr`` with flips and global intensity changes only: for data that are plentiful."""
    return Preset("brain-mr-light", LIGHT)


def brain_mr_plain() -> Preset:
    """``brain-mr`` without augmentation."""
    return Preset("brain-mr-plain", NONE)


def mr() -> Preset:
    """``brain-mr`` for images with skull or of the body: noise around the patient is not cut away,
    as what is dark would go with it."""
    return Preset("mr", FULL, whole=True)


def ct() -> Preset:
    """CT clipped to the 0.5 and 99.5 percentiles of the labelled voxels of the training cases, less
    their mean, by their deviation (Isensee et al. 2021); other channels as ``mr``."""
    return Preset("ct", FULL, whole=True, windowed=True)


def picture() -> Preset:
    """Pictures whole: scaled to fit, their aspect kept, and z-scored; augmented."""
    return Preset("picture", PICTURE, fits=True)


def picture_plain() -> Preset:
    """``picture`` without augmentation."""
    return Preset("picture-plain", NONE, fits=True)


def picture_raw() -> Preset:
    """``picture`` with intensities as stored, black 0 and white 1."""
    return Preset("picture-raw", _UNIT, fits=True, scaling="unit")


def picture_raw_plain() -> Preset:
    """``picture-raw`` without augmentation."""
    return Preset("picture-raw-plain", NONE, fits=True, scaling="unit")


def picture_imagenet() -> Preset:
    """``picture`` with ImageNet's mean and deviation per channel, for weights from there."""
    return Preset("picture-imagenet", PICTURE, fits=True, scaling="imagenet")


def head_picture() -> Preset:
    """``picture`` that hides the file's size: cropped to the head, all blurred alike."""
    return Preset("head-picture", PICTURE, fits=True, head=True)


#: Intensities of 0 to 1 deviate by about a quarter.
_UNIT = replace(PICTURE, noise=PICTURE.noise / 4, shift=PICTURE.shift / 4)


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
