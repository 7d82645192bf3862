"""Named presets: deterministic preparation of a case, and the augmentation that goes with it.

Axes: C modality, L region, I J K voxels (right-anterior-superior after preparation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from medtl.transforms.augment import FULL, LIGHT, NONE, PICTURE, Augmentation
from medtl.transforms.histogram import Standard
from medtl.transforms.intensity import CLIP_PERCENTILES, HEAD_BLUR

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
