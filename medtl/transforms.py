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
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medtl.augment import FULL, LIGHT, NONE, PICTURE, Augmentation
from medtl.errors import DataError
from medtl.harmonisation import Standard

#: Raised whenever the same files and preset are prepared into other numbers than before.
VERSION = 2
#: The same, of presets that keep the levels of pictures.
LEVELS_VERSION = 3
#: Intensities beyond these percentiles of the brain are clipped before the z-score.
CLIP_PERCENTILES = (0.5, 99.5)
#: N4 runs on a grid this many times coarser: the bias field is smooth, and the filter slow.
N4_SHRINK = 4
#: N4's B-spline mesh doubles from level to level; one level leaves half of a strong field.
N4_LEVELS = 4
#: N4 takes logarithms: the lowest value in the brain is at least this share of their range.
POSITIVE_SHARE = 0.01

#: z-score; 0 (black) to 1 (white); or that less ImageNet's mean, by its deviation.
Scaling = Literal["zscore", "unit", "imagenet"]
#: Levels of white, of 8 bits and of 16.
WHITE = (255.0, 65535.0)
#: Mean and deviation of red, green and blue in ImageNet, of 1 (torchvision's); grey: their mean.
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
#: Deviation of the blur that hides how fine a picture was, as a share of the head's longest edge.
HEAD_BLUR = 1 / 96


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
    axes, flips = _to_ras(affine)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
    start, size = _box(_orient(np.logical_or.reduce(covered_CIJK), axes, flips))
    crop = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    channels: list[NDArray[np.float32]] = []
    by_name = dict(preset.windows)
    names = modalities or [""] * len(image_CIJK)
    types = stored or [image_CIJK.dtype] * len(image_CIJK)
    covers = np.broadcast_to(covered_CIJK, image_CIJK.shape)
    for *native, name, held in zip(image_CIJK, covers, names, types, strict=True):
        channel_IJK, covered_IJK = (_orient(array_IJK, axes, flips)[crop] for array_IJK in native)
        if preset.n4:
            channel_IJK = n4_correct(channel_IJK, covered_IJK, spacing_mm)
        if preset.standard:
            channel_IJK = preset.standard.apply(name, channel_IJK, covered_IJK)
        if preset.scaling == "zscore":
            scaled_IJK = zscore_in_brain(channel_IJK, covered_IJK, by_name.get(name))
        else:
            colour = _imagenet(len(channels), len(image_CIJK))
            statistics = colour if preset.scaling == "imagenet" else None
            scaled_IJK = scale_levels(channel_IJK, white_of(held, channel_IJK), statistics)
        channels.append(scaled_IJK)
    shape = prepared_shape(size, spacing_mm, preset)
    image = _resample(torch.from_numpy(np.stack(channels)), shape)
    prepared: dict[str, Any] = {
        "image": _blurred(image) if preset.head else image,
        "placement": Placement(brain_shape(image_CIJK), start, size, axes, flips),
    }
    if target_LIJK is not None:
        cropped = np.stack([_orient(region, axes, flips)[crop] for region in target_LIJK])
        share = _resample(torch.from_numpy(cropped.astype(np.float32)), shape)
        prepared["target"] = (share >= 0.5).to(torch.uint8)
    return prepared


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


def restore(logits_LIJK: Tensor, placement: Placement, fill: float) -> Tensor:
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


def zscore_in_brain(
    image_IJK: NDArray[np.float32],
    brain_IJK: NDArray[np.bool_],
    window: tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """Clip to the brain's percentiles, subtract its mean, divide by its deviation; 0 outside.

    A ``window`` (low, high, mean, deviation) stands in for what would be measured.
    """
    values = image_IJK[brain_IJK]
    low, high = np.percentile(values, CLIP_PERCENTILES) if window is None else window[:2]
    values = np.clip(values, low, high)
    mean, deviation = (values.mean(), float(values.std())) if window is None else window[2:]
    if deviation == 0:
        raise DataError("every voxel in the brain has the same value; leave out the case")
    scored = np.zeros(image_IJK.shape, dtype=np.float32)
    scored[brain_IJK] = (values - mean) / deviation
    return scored


def white_of(stored: np.dtype[Any], image_IJK: NDArray[np.float32]) -> float:
    """The level of white by how an image is ``stored``; where that says nothing, 16 bits if it has
    higher levels than 8 bits do. A dark picture of 16 bits stays dark."""
    eight, sixteen = WHITE
    if stored in (np.uint8, np.uint16):
        return eight if stored == np.uint8 else sixteen
    return sixteen if image_IJK.max() > eight else eight


def scale_levels(
    image_IJK: NDArray[np.float32], white: float, statistics: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Levels of a picture -> 0 (black) to 1 (``white``), then less mean and by deviation if
    given."""
    unit_IJK = image_IJK / np.float32(white)
    if statistics is None:
        return np.asarray(unit_IJK)
    mean, deviation = statistics
    return np.asarray((unit_IJK - np.float32(mean)) / np.float32(deviation))


def _imagenet(channel: int, channels: int) -> tuple[float, float]:
    """Three channels are taken for red, green and blue, in their order."""
    if channels == len(IMAGENET):
        return IMAGENET[channel]
    mean, deviation = np.mean(IMAGENET, axis=0).tolist()
    return mean, deviation


def _blurred(image_CIJK: Tensor) -> Tensor:
    sigma = HEAD_BLUR * max(image_CIJK.shape[1:])
    widths = [sigma if n > 1 else 0.0 for n in image_CIJK.shape[1:]]
    return torch.from_numpy(gaussian_filter(image_CIJK.numpy(), [0.0, *widths]))


def n4_correct(
    image_IJK: NDArray[np.float32], brain_IJK: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Divide by the bias field that ITK's N4 finds on a coarser grid (Tustison et al. 2010).

    Bias is a factor, so values are moved only as far as it takes to make all of them positive.
    The result is 0 outside the brain.
    """
    import itk

    inside = image_IJK[brain_IJK]
    shift = max(0.0, POSITIVE_SHARE * float(np.ptp(inside)) - float(inside.min()))
    positive_IJK = np.where(brain_IJK, image_IJK + shift, 0.0)
    shape = tuple(max(8, n // N4_SHRINK) for n in image_IJK.shape)
    pair = torch.from_numpy(np.stack([positive_IJK, brain_IJK]).astype(np.float32))
    total, share = _resample(pair, shape).numpy()
    mask = share > 0.5
    coarse = np.where(mask, total / np.maximum(share, 0.5), 1.0).astype(np.float32)
    source = itk.image_from_array(np.ascontiguousarray(coarse))
    source.SetSpacing([float(mm) * N4_SHRINK for mm in spacing_mm[::-1]])
    region = itk.image_from_array(np.ascontiguousarray(mask.astype(np.uint8)))
    region.CopyInformation(source)
    corrected = itk.array_from_image(
        itk.n4_bias_field_correction_image_filter(
            source,
            mask_image=region,
            number_of_fitting_levels=N4_LEVELS,
            maximum_number_of_iterations=[50] * N4_LEVELS,
        )
    )
    # The filter finds the field in the mask alone; at its rim the nearest known values count.
    known = np.where(mask, coarse / np.where(mask, corrected, 1.0), 0.0)
    pair = torch.from_numpy(np.stack([known, mask]).astype(np.float32))
    field, weight = functional.interpolate(
        pair[None], size=image_IJK.shape, mode="trilinear", align_corners=False
    )[0].numpy()
    found = brain_IJK & (weight > 0)
    result_IJK = positive_IJK.astype(np.float32)
    result_IJK[found] *= weight[found] / field[found]
    return result_IJK


def _to_ras(
    affine: NDArray[np.float64],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    from nibabel.orientations import io_orientation

    codes = io_orientation(affine)  # type: ignore[no-untyped-call]
    order = np.argsort(codes[:, 0])
    axes = tuple(int(axis) for axis in order)
    flips = tuple(bool(codes[axis, 1] < 0) for axis in order)
    return axes, flips  # type: ignore[return-value]


def _orient(
    array_IJK: NDArray[Any], axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> NDArray[Any]:
    return array_IJK.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]


def _box(brain_IJK: NDArray[np.bool_]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    start, size = [], []
    for axis in range(3):
        inside = np.flatnonzero(brain_IJK.any(axis=tuple(a for a in range(3) if a != axis)))
        start.append(int(inside[0]))
        size.append(int(inside[-1] - inside[0] + 1))
    return (start[0], start[1], start[2]), (size[0], size[1], size[2])


def _resample(image_CIJK: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Average over the new voxel where the grid gets coarser, trilinear where it gets finer."""
    old = image_CIJK.shape[1:]
    if tuple(old) == shape:
        return image_CIJK.clone()
    coarser = tuple(min(a, b) for a, b in zip(old, shape, strict=True))
    averaged = functional.interpolate(image_CIJK[None], size=coarser, mode="area")
    if coarser == shape:
        return averaged[0]
    return functional.interpolate(averaged, size=shape, mode="trilinear", align_corners=False)[0]
