"""Named presets: how a case is preprocessed, and the augmentation that goes with it.

Axes: C modality, L region, I J K voxels (right-anterior-superior after preprocessing).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from medtl.data.voxel_size import Spacing, as_spacing
from medtl.transforms.augment import FULL, LIGHT, NONE, PICTURE, USUAL, Augmentation
from medtl.transforms.histogram import CLIP_PERCENTILES, Standard
from medtl.transforms.image_record import ImageRecord
from medtl.transforms.intensity import HEAD_BLUR
from medtl.transforms.nnunet import NnunetRecipe

#: Raised when the same files and preset give other numbers than before.
VERSION = 2


#: The versions of presets for pictures and of those with N4.
PICTURES_VERSION, N4_VERSION = 4, 3


#: z-score; 0 (black) to 1 (white); or the latter standardised by ImageNet's statistics.
Scaling = Literal["zscore", "unit", "imagenet"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Deterministic preprocessing (recorded in every checkpoint) and augmentation, by name."""

    name: str
    augmentation: Augmentation
    spacing_mm: Spacing = 2.0  #: one number, or one per axis (right, front, up)
    n4: bool = False
    whole: bool = False  #: do not cut away dark noise around the patient
    windowed: bool = False  #: CT channels are scaled by ``windows``, the same in every case
    #: modality; lowest and highest intensity, and mean and deviation within that range
    windows: tuple[tuple[str, tuple[float, ...]], ...] = ()
    fits: bool = False  #: whole images are scaled to fit into ``size``; no mm are known
    size: tuple[int, ...] = ()  #: voxels per axis; two for pictures
    scaling: Scaling = "zscore"  #: of intensities; "unit" and "imagenet" are for pictures
    head: bool = False  #: crop to the head and blur, which hides the picture's size
    standard: Standard | None = None  #: histogram standard, applied before the z-score
    nnunet: NnunetRecipe | None = None  #: as nnU-Net does it, for its checkpoints
    #: modality; what its training images look like. Without it each image decides for itself.
    images: tuple[tuple[str, ImageRecord], ...] = ()

    @property
    def version(self) -> int:
        """Of the preprocessing; cached arrays of another version are not used."""
        if self.fits:
            return PICTURES_VERSION
        return N4_VERSION if self.n4 else VERSION

    def with_spacing(self, spacing_mm: Spacing | Sequence[float]) -> Preset:
        return replace(self, spacing_mm=as_spacing(spacing_mm))

    def with_windows(self, windows: Mapping[str, Sequence[float]]) -> Preset:
        """The preset with these windows, by modality; others are scaled case by case."""
        rows = ((name, tuple(map(float, windows[name]))) for name in sorted(windows))
        return replace(self, windows=tuple(rows))

    def with_images(self, images: Mapping[str, ImageRecord]) -> Preset:
        """The preset with these records of the training images; pictures need none."""
        return self if self.fits else replace(self, images=tuple(sorted(images.items())))

    def with_strength(self, factor: float) -> Preset:
        """The preset whose augmentation comes ``factor`` times as often."""
        return replace(self, augmentation=self.augmentation.scaled(factor))

    def with_modality_dropout(self, share: float) -> Preset:
        """The preset with this ``modality_dropout`` in its augmentation."""
        return replace(self, augmentation=replace(self.augmentation, modality_dropout=share))

    def without_flips(self, axes: Collection[int]) -> Preset:
        """The preset whose augmentation does not mirror along these axes."""
        i, j, k = (one and axis not in axes for axis, one in enumerate(self.augmentation.flips))
        return replace(self, augmentation=replace(self.augmentation, flip=(i, j, k)))

    def without_fading(self) -> Preset:
        """The preset whose augmentation leaves the first region's contrast as it is."""
        return replace(self, augmentation=replace(self.augmentation, fade_p=0.0))

    def with_size(self, size: Sequence[int]) -> Preset:
        """The preset for images that are scaled to fit into ``size``; one in mm is unchanged."""
        return replace(self, size=tuple(size)) if self.fits else self

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint records of the preprocessing."""
        return {
            "preset": self.name,
            "version": self.version,
            "spacing_mm": self.spacing_mm
            if isinstance(self.spacing_mm, int | float)
            else list(self.spacing_mm),
            "n4": self.n4,
            "clip_percentiles": list(CLIP_PERCENTILES),
            "augmentation": asdict(self.augmentation),
            **({"whole": True} if self.whole else {}),
            **({"windows": {n: list(w) for n, w in self.windows}} if self.windowed else {}),
            **(
                {"images": {n: record.to_json() for n, record in self.images}}
                if self.images
                else {}
            ),
            **({"size": list(self.size)} if self.fits else {}),
            **({"scaling": self.scaling} if self.scaling != "zscore" else {}),
            **({"head_blur": HEAD_BLUR} if self.head else {}),
            **({"nnunet": self.nnunet.to_json()} if self.nnunet else {}),
            **({"harmonise": self.standard.to_json()} if self.standard else {}),
        }


#: Intensities of 0 to 1 deviate by about a quarter.
_UNIT = replace(PICTURE, noise=PICTURE.noise / 4, shift=PICTURE.shift / 4)

#: RAS, crop to the brain, clip, z-score in the brain, resample; full augmentation.
brain_mr = partial(Preset, "brain-mr", FULL)
#: ``brain-mr`` with N4 bias-field correction first (Tustison et al. 2010, by ITK).
brain_mr_n4 = partial(Preset, "brain-mr-n4", FULL, n4=True)
#: ``brain-mr`` with flips and global intensity changes only: for data that are plentiful.
brain_mr_light = partial(Preset, "brain-mr-light", LIGHT)
#: ``brain-mr`` without augmentation.
brain_mr_plain = partial(Preset, "brain-mr-plain", NONE)

#: ``brain-mr`` for images with skull or of the body: noise around the patient is not cut away, as
#: dark tissue would be cut away with it.
mr = partial(Preset, "mr", FULL, whole=True)
#: ``mr`` with the augmentation of nnU-Net, for cases by the dozen.
mr_usual = partial(Preset, "mr-usual", USUAL, whole=True)
#: CT clipped to the 0.5 and 99.5 percentiles of the training cases' labelled voxels, then
#: standardised by their mean and deviation (Isensee et al. 2021); other channels as ``mr``.
ct = partial(Preset, "ct", FULL, whole=True, windowed=True)

#: Whole pictures, scaled to fit with their aspect ratio, and z-scored; augmented.
picture = partial(Preset, "picture", PICTURE, fits=True)
#: ``picture`` without augmentation.
picture_plain = partial(Preset, "picture-plain", NONE, fits=True)
#: ``picture`` with intensities as stored, black 0 and white 1.
picture_raw = partial(Preset, "picture-raw", _UNIT, fits=True, scaling="unit")
#: ``picture-raw`` without augmentation.
picture_raw_plain = partial(Preset, "picture-raw-plain", NONE, fits=True, scaling="unit")
#: ``picture`` standardised by ImageNet's mean and deviation, for ImageNet weights.
picture_imagenet = partial(Preset, "picture-imagenet", PICTURE, fits=True, scaling="imagenet")
#: ``picture`` that hides the file's size: cropped to the head and blurred equally.
head_picture = partial(Preset, "head-picture", PICTURE, fits=True, head=True)

#: As nnU-Net prepares images, by the plans in its checkpoint; no component, as it needs these.
NNUNET = Preset("nnunet", NONE)
