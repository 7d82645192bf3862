"""Whole prepared images as a network takes them, and augmented ones to train on.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.transforms.augment import Augmentation, apply, apply_to_image, draw
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.views import views


@dataclass(eq=False)
class Views(Dataset[dict[str, Tensor]]):
    """Augmented views with the probability of each class, addressed by the sample's number.

    As with :class:`Patches`, all randomness of sample n depends on (``key``, n) alone.
    """

    cached: Dataset[Any]
    cases: InitVar[Sequence[Case]]
    preprocessor: Preprocessor
    patch: tuple[int, ...]
    key: str

    def __post_init__(self, cases: Sequence[Case]) -> None:
        regions = self.preprocessor.regions
        classes = [regions.index(case.class_name) for case in cases]
        self.targets_NL = torch.eye(len(regions))[classes]

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[dict[str, Tensor]]:
        """Several samples; the DataLoader calls this method, as it is faster than one by one."""
        indices = [shuffled(self.key, sample, len(self.targets_NL)) for sample in samples]
        images = views(
            [self.cached[index]["image"] for index in indices],
            self.patch,
            self.preprocessor.preset.augmentation,
            [seed_of(self.key, "sample", sample) for sample in samples],
        )
        pairs = zip(images, self.targets_NL[indices], strict=True)
        return [{"image": image, "target": target_L} for image, target_L in pairs]


@dataclass(eq=False)
class Patches(Dataset[dict[str, Tensor]]):
    """Augmented patches, addressed by the sample's number on its domain.

    The patient and all randomness of sample n depend on (``key``, n) alone. The key names seed and
    domain. Every pass over the patients has a new seeded order, which does not depend on the
    workers, the cache or the processes.
    """

    cached: Dataset[Any]
    count: int
    preprocessor: Preprocessor
    patch: tuple[int, ...]
    key: str

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        case = self.cached[shuffled(self.key, sample, self.count)]
        size = _in_3d(self.patch)
        drawn = draw(
            self.preprocessor.preset.augmentation,
            case["centres"],
            tuple(case["image"].shape[1:]),
            size,
            len(self.preprocessor.modalities),
            seed_of(self.key, "sample", sample),
        )
        image, target = apply(drawn, case["image"], case["target"], size, case.get("unknown"))
        if len(self.patch) == 2:
            image, target = image[..., 0], target[..., 0]
        return {"image": image, "target": target}


@dataclass(eq=False)
class Beside(Dataset[Any]):
    """The prepared cases of two domains, as many of one as of the other.

    Those of the smaller domain come again until there are as many.
    """

    both: tuple[Dataset[Any], Dataset[Any]]
    counts: tuple[int, int]

    def __len__(self) -> int:
        return 2 * max(self.counts)

    def __getitem__(self, index: int) -> Any:
        side, number = self.place(index)
        return self.both[side][number]

    def place(self, index: int) -> tuple[int, int]:
        """The domain (0 or 1) and the number of the case in it."""
        number, side = divmod(index, 2)
        return side, number % self.counts[side]


def _in_3d(patch: tuple[int, ...]) -> tuple[int, int, int]:
    """The patch's edges in voxels; a 2-D patch is one slice."""
    i, j, k = (*patch, 1) if len(patch) == 2 else patch
    return i, j, k


def shuffled(key: str, sample: int, count: int) -> int:
    """Which of ``count`` cases a sample shows: every pass over them is a new order."""
    turn, position = divmod(sample, count)
    return int(_order(key, turn, count)[position])


@lru_cache(maxsize=8)
def _order(key: str, turn: int, count: int) -> NDArray[np.int64]:
    """Kept, as making it for each sample would take as long as half of a picture's augmentation."""
    return np.random.default_rng(seed_of(key, turn)).permutation(count)


def seed_of(*parts: object) -> int:
    """A seed that depends on ``parts`` alone, on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def blind(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The same images without their labels."""
    return tuple(
        replace(
            case,
            target=None,
            mask=None,
            regions={},
            labels=(),
            ignored=(),
            unannotated=(),
            class_name="",
            stratum="",
        )
        for case in cases
    )


@dataclass(eq=False)
class Images(Dataset[Tensor]):
    """Augmented images or patches of :func:`blind` cases, addressed by the sample's number.

    As with :class:`Patches`, all randomness of sample n depends on (``key``, n) alone. Patches are
    cut at random positions, as no label says where a region lies.
    """

    cached: Dataset[Any]
    count: int
    augmentation: Augmentation
    patch: tuple[int, ...]
    key: str
    whole: bool = field(kw_only=True)

    def __getitem__(self, sample: int) -> Tensor:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[Tensor]:
        """Several samples; the DataLoader calls this method."""
        images = [self.cached[shuffled(self.key, n, self.count)]["image"] for n in samples]
        seeds = [seed_of(self.key, "sample", n) for n in samples]
        if self.whole:
            return list(views(images, self.patch, self.augmentation, seeds))
        return [self._patch(image, seed) for image, seed in zip(images, seeds, strict=True)]

    def _patch(self, image_CIJK: Tensor, seed: int) -> Tensor:
        size = _in_3d(self.patch)
        channels, i, j, k = image_CIJK.shape
        drawn = draw(self.augmentation, {}, (i, j, k), size, channels, seed)
        shown = apply_to_image(drawn, image_CIJK, size)
        return shown[..., 0] if len(self.patch) == 2 else shown
