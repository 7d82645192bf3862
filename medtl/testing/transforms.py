"""What a preset must keep, on a volume or picture whose region is bright in every modality.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.data.modality import Modality
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.toys import MODALITIES, REGIONS, ball
from medtl.transforms.augment import NONE, apply, draw
from medtl.transforms.native import to_native
from medtl.transforms.preprocess import Placement
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset

EDGE, SIZE = 40, 48


#: From the patient's left and back, and 3 mm slices: orientation and spacing have to be seen to.
AFFINE = np.diag([-1.5, 1.5, 3.0, 1.0])


SAMPLES = 8


#: Dice of the regions before and after; resampling moves their edges.
OVERLAP = 0.7


#: How often a voxel of the region is brighter than one outside of it.
BRIGHTER = 0.8


@dataclass(frozen=True, slots=True)
class Native:
    """An image as it is stored, with its regions."""

    image_CIJK: NDArray[np.float32]
    target_LIJK: NDArray[np.bool_]


def preset_of(tried: Tried) -> Preset:
    return tried.returned(Preset).with_size((SIZE, SIZE))


def native(preset: Preset) -> Native:
    """A ball with a nested, off-centre region that is brighter; one slice of it for pictures."""
    cut = np.s_[:, :, 22:23] if preset.fits else np.s_[:, :, 8:32]
    head_IJK = ball(EDGE, 0.8, (0, 0, 0))[cut]
    outer_IJK = ball(EDGE, 0.45, (0.25, -0.1, 0.1))[cut]
    inner_IJK = ball(EDGE, 0.25, (0.25, -0.1, 0.1))[cut]
    random = np.random.default_rng(0)
    tissue_CIJK = random.normal(60, 4, (len(MODALITIES), *head_IJK.shape))
    image_CIJK = np.where(head_IJK, tissue_CIJK + 100 * outer_IJK, 0).clip(0)
    return Native(image_CIJK.astype(np.float32), np.stack([outer_IJK, inner_IJK]))


def prepare(preset: Preset) -> tuple[Tensor, Tensor, Placement]:
    """image_CIJK, target_LIJK and where they lie in the native grid."""
    preprocessor = Preprocessor(tuple(map(Modality, MODALITIES)), REGIONS, preset)
    given = native(preset)
    found = preprocessor.prepare(given.image_CIJK, AFFINE, given.target_LIJK)
    return found["image"], found["target"], found["placement"]


@lru_cache(maxsize=2)
def prepared(preset: Preset) -> tuple[Tensor, Tensor, Placement]:
    """:func:`prepare`, kept, as N4 takes a second."""
    return prepare(preset)


def sample(preset: Preset, seed: int) -> tuple[Tensor, Tensor]:
    """An augmented view of the whole prepared image, and of its regions."""
    image_CIJK, target_LIJK, _ = prepared(preset)
    i, j, k = image_CIJK.shape[1:]
    drawn = draw(preset.augmentation, {}, (i, j, k), (i, j, k), len(MODALITIES), seed, whole=True)
    return apply(drawn, image_CIJK, target_LIJK, (i, j, k))


def says_what_it_is(tried: Tried) -> None:
    """It has the component's name, which checkpoints record, with settings that are plain data."""
    preset = preset_of(tried)
    require(preset.name == tried.name, f"its name is {preset.name!r}; call it {tried.name!r}")
    try:
        json.dumps(preset.to_json(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"its settings are no JSON ({error}); use finite numbers") from error


def preparation_is_deterministic(tried: Tried) -> None:
    """The same image is prepared to the same finite numbers."""
    preset = preset_of(tried)
    (one, regions, _), (other, _, _) = prepared(preset), prepare(preset)
    require(torch.isfinite(one).all(), "the prepared image is not finite")
    require(torch.equal(one, other), "the same image is prepared to other numbers")
    require(one.shape[0] == len(MODALITIES), f"{len(MODALITIES)} channels become {one.shape[0]}")
    require(regions.shape[1:] == one.shape[1:], "image and regions are prepared onto other grids")


def preparation_keeps_place_and_labels(tried: Tried) -> None:
    """Back in the native grid, each region lies where it was; its values are only 0 and 1."""
    preset = preset_of(tried)
    _, target_LIJK, placement = prepared(preset)
    odd = set(torch.unique(target_LIJK).tolist()) - {0, 1}
    require(not odd, f"regions hold {sorted(odd)} beside 0 and 1")
    back_LIJK = to_native(target_LIJK.float(), placement, 0.0).numpy() > 0.5
    given_LIJK = native(preset).target_LIJK
    for name, one, other in zip(REGIONS, back_LIJK, given_LIJK, strict=True):
        dice = 2 * (one & other).sum() / max(1, one.sum() + other.sum())
        found = f"the {name} region, of {int(other.sum())} voxels, comes back with Dice {dice:.2f}"
        require(dice >= OVERLAP, f"{found}; choose a finer spacing_mm")


def same_seed_gives_the_same_sample(tried: Tried) -> None:
    """A sample depends only on its seed; without augmentation, all samples are the same."""
    preset = preset_of(tried)
    for seed in range(2):
        one, other = sample(preset, seed), sample(preset, seed)
        same = all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        require(same, "the same seed gives another sample; draw from that seed only")
    images = [sample(preset, seed)[0] for seed in range(SAMPLES)]
    differ = any(not torch.equal(images[0], image) for image in images[1:])
    plain, remedy = preset.augmentation == NONE, "raise a probability, or set augmentation to NONE"
    require(differ or plain, f"{SAMPLES} seeds give the same sample; {remedy}")
    require(not differ or not plain, "augmentation is NONE, but samples differ")


def augmented_labels_stay_on_the_image(tried: Tried) -> None:
    """Augmented regions hold only 0 and 1 and lie where the image is bright; it is finite."""
    preset = preset_of(tried)
    seen, above = 0, []
    for seed in range(SAMPLES):
        image_CIJK, target_LIJK = sample(preset, seed)
        require(torch.isfinite(image_CIJK).all(), f"the sample of seed {seed} is not finite")
        odd = set(torch.unique(target_LIJK).tolist()) - {0, 1}
        require(not odd, f"augmented regions hold {sorted(odd)} beside 0 and 1")
        inside_IJK = target_LIJK[0] > 0
        if 0 < inside_IJK.sum() < inside_IJK.numel():
            seen += 1
            above.append(_brighter(image_CIJK[0], inside_IJK))
    found = f"the region of the image is left in {seen} of {SAMPLES} samples"
    require(seen > SAMPLES // 2, f"{found}; lower overhang, rotation_deg or the range of scale")
    typical = float(np.median(above))
    found = f"{typical:.0%} of the voxels of a bright region are brighter than those around it"
    require(typical >= BRIGHTER, f"{found}; lower noise, fade or contrast")


def _brighter(image_IJK: Tensor, inside_IJK: Tensor) -> float:
    """How often a voxel inside is brighter than one outside (area under the ROC curve)."""
    values, marks = image_IJK.flatten(), inside_IJK.flatten()
    ranks = torch.empty(len(values), dtype=torch.float64)
    ranks[values.argsort()] = torch.arange(1, len(values) + 1, dtype=torch.float64)
    n, m = int(marks.sum()), int((~marks).sum())
    return float((ranks[marks].sum() - n * (n + 1) / 2) / (n * m))
