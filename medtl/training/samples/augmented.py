"""Whole prepared images as a network takes them, and augmented ones to train on.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.inference.task_types import TaskType
from medtl.transforms.augment import Augmentation, apply, apply_to_image, draw
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.views import views


class Views(Dataset[dict[str, Tensor]]):
    """Augmented views with the probability of each class, addressed by the number of the sample.

    As with :class:`medtl.training.samples.augmented.Patches`, all randomness of sample n depends
    on (``key``, n) alone.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        cases: Sequence[Case],
        preprocessor: Preprocessor,
        patch: tuple[int, ...],
        key: str,
    ) -> None:
        self.cached = cached
        self.classes = [preprocessor.regions.index(case.class_name) for case in cases]
        self.targets_NL = torch.eye(len(preprocessor.regions))[self.classes]
        self.preprocessor = preprocessor
        self.patch = patch
        self.key = key

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[dict[str, Tensor]]:
        """Several samples, which a DataLoader asks for in this way; faster than one by one."""
        indices = [shuffled(self.key, sample, len(self.classes)) for sample in samples]
        images = views(
            [self.cached[index]["image"] for index in indices],
            self.patch,
            self.preprocessor.preset.augmentation,
            [seed_of(self.key, "sample", sample) for sample in samples],
        )
        targets_BL = self.targets_NL[indices]
        return [
            {"image": image, "target": target_L}
            for image, target_L in zip(images, targets_BL, strict=True)
        ]


class Patches(Dataset[dict[str, Tensor]]):
    """Augmented patches, addressed by the number of the sample on its domain.

    The patient and all randomness of sample n depend on (``key``, n) alone, the key naming seed and
    domain: every pass over the patients is a new seeded order, whatever the workers, the cache or
    the processes.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        count: int,
        preprocessor: Preprocessor,
        patch: tuple[int, ...],
        key: str,
    ) -> None:
        self.cached = cached
        self.count = count
        self.preprocessor = preprocessor
        self.patch = patch
        self.key = key

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        case = self.cached[shuffled(self.key, sample, self.count)]
        i, j, k = (*self.patch, 1) if len(self.patch) == 2 else self.patch
        drawn = draw(
            self.preprocessor.preset.augmentation,
            case["centres"],
            tuple(case["image"].shape[1:]),
            (i, j, k),
            len(self.preprocessor.modalities),
            seed_of(self.key, "sample", sample),
        )
        image, target = apply(drawn, case["image"], case["target"], (i, j, k))
        if len(self.patch) == 2:
            image, target = image[..., 0], target[..., 0]
        return {"image": image, "target": target}


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
    """The same images; what is known of their truth is gone."""
    return tuple(
        replace(case, target=None, mask=None, regions={}, labels=(), class_name="", stratum="")
        for case in cases
    )


class Images(Dataset[Tensor]):
    """Augmented images or patches of :func:`blind` cases, addressed by the number of the sample.

    As with :class:`medtl.training.samples.augmented.Patches`, all randomness of sample n depends
    on (``key``, n) alone; patches are cut anywhere, as nothing tells where something is to be
    found.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        count: int,
        augmentation: Augmentation,
        patch: tuple[int, ...],
        key: str,
        *,
        whole: bool,
    ) -> None:
        self.cached = cached
        self.count = count
        self.augmentation = augmentation
        self.patch = patch
        self.key = key
        self.whole = whole

    def __getitem__(self, sample: int) -> Tensor:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[Tensor]:
        """Several samples, which a DataLoader asks for in this way."""
        images = [self.cached[shuffled(self.key, n, self.count)]["image"] for n in samples]
        seeds = [seed_of(self.key, "sample", n) for n in samples]
        if self.whole:
            return list(views(images, self.patch, self.augmentation, seeds))
        return [self._patch(image, seed) for image, seed in zip(images, seeds, strict=True)]

    def _patch(self, image_CIJK: Tensor, seed: int) -> Tensor:
        i, j, k = (*self.patch, 1) if len(self.patch) == 2 else self.patch
        channels, *shape = image_CIJK.shape
        drawn = draw(
            self.augmentation, {}, (shape[0], shape[1], shape[2]), (i, j, k), channels, seed
        )
        shown = apply_to_image(drawn, image_CIJK, (i, j, k))
        return shown[..., 0] if len(self.patch) == 2 else shown


def build_samples(
    task_type: TaskType,
    cached: Dataset[Any],
    cases: Sequence[Case],
    preprocessor: Preprocessor,
    patch: tuple[int, ...],
    key: str,
) -> Patches | Views:
    """Augmented samples of cached cases: patches for segmentation, whole images for classes."""
    if task_type.dense:
        return Patches(cached, len(cases), preprocessor, patch, key)
    return Views(cached, cases, preprocessor, patch, key)
