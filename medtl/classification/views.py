"""Whole prepared images as a network takes them, and augmented ones to train on.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medtl.augment import NONE, Augmentation, Draw, apply_to_image, draw
from medtl.case import Case
from medtl.classification.pictures import augmented, framed
from medtl.data import Preprocessor
from medtl.loading import seed_of, shuffled


def view(
    image_CIJK: Tensor, patch: Sequence[int], augmentation: Augmentation = NONE, seed: int = 0
) -> Tensor:
    """The image in the middle of a patch (C, then as many axes as the patch has).

    Around a volume it is 0, around a picture as dark as the picture gets.
    """
    return views([image_CIJK], patch, augmentation, [seed])[0]


def views(
    images: Sequence[Tensor],
    patch: Sequence[int],
    augmentation: Augmentation,
    seeds: Sequence[int],
) -> Tensor:
    """:func:`view` of several images (B, C, then the axes of the patch)."""
    if len(patch) == 2:
        i, j = patch
        pictures_BCIJ = torch.stack([framed(image, (i, j)) for image in images])
        if augmentation == NONE:
            return pictures_BCIJ
        drawn = [
            _draw(augmentation, picture[..., None], (i, j, 1), seed)
            for picture, seed in zip(pictures_BCIJ, seeds, strict=True)
        ]
        return augmented(drawn, pictures_BCIJ)
    i, j, k = patch
    return torch.stack(
        [
            apply_to_image(_draw(augmentation, image, (i, j, k), seed), image, (i, j, k))
            for image, seed in zip(images, seeds, strict=True)
        ]
    )


def _draw(
    augmentation: Augmentation, image_CIJK: Tensor, patch: tuple[int, int, int], seed: int
) -> Draw:
    channels, i, j, k = image_CIJK.shape
    return draw(augmentation, {}, (i, j, k), patch, channels, seed, whole=True)


def unviewed(map_IJK: Tensor, shape: Sequence[int]) -> Tensor:
    """A map of a :func:`view` without augmentation (a 2-D one has no K) -> the image's own grid.

    Where the view did not reach it is 0.
    """
    map_IJK = map_IJK[..., None] if map_IJK.ndim == 2 else map_IJK
    full_IJK = map_IJK.new_zeros(tuple(shape))
    inner, outer = [], []
    for size, edge in zip(shape, map_IJK.shape, strict=True):
        start = (size - edge + 1) // 2  # of the view, in the image
        low, high = max(0, start), min(size, start + edge)
        inner.append(slice(low - start, high - start))
        outer.append(slice(low, high))
    full_IJK[tuple(outer)] = map_IJK[tuple(inner)]
    return full_IJK


class Views(Dataset[dict[str, Tensor]]):
    """Augmented views with the probability of each class, addressed by the number of the sample.

    As with :class:`medtl.loading.Patches`, all randomness of sample n depends on (``key``, n)
    alone.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        cases: Sequence[Case],
        recipe: Preprocessor,
        patch: tuple[int, ...],
        key: str,
    ) -> None:
        self.cached = cached
        self.classes = [recipe.regions.index(case.class_name) for case in cases]
        self.targets_NL = torch.eye(len(recipe.regions))[self.classes]
        self.recipe = recipe
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
            self.recipe.preset.augmentation,
            [seed_of(self.key, "sample", sample) for sample in samples],
        )
        targets_BL = self.targets_NL[indices]
        return [
            {"image": image, "target": target_L}
            for image, target_L in zip(images, targets_BL, strict=True)
        ]
