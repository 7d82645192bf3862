"""Whole prepared images as a network takes them, and augmented ones to train on.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medtl.augment import NONE, Augmentation, apply_to_image, draw
from medtl.case import Case
from medtl.data import Recipe, seed_of, shuffled


def view(
    image_CIJK: Tensor, patch: Sequence[int], augmentation: Augmentation = NONE, seed: int = 0
) -> Tensor:
    """The image in the middle of a patch (C, then as many axes as the patch has), 0 around it."""
    i, j, k = (*patch, 1) if len(patch) == 2 else patch
    _, *shape = image_CIJK.shape
    drawn = draw(
        augmentation,
        {},
        (shape[0], shape[1], shape[2]),
        (i, j, k),
        len(image_CIJK),
        seed,
        whole=True,
    )
    shown = apply_to_image(drawn, image_CIJK, (i, j, k))
    return shown[..., 0] if len(patch) == 2 else shown


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

    As with :class:`medtl.data.Patches`, all randomness of sample n depends on (``key``, n) alone.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        cases: Sequence[Case],
        recipe: Recipe,
        patch: tuple[int, ...],
        key: str,
    ) -> None:
        self.cached = cached
        self.classes = [recipe.regions.index(case.class_name) for case in cases]
        self.recipe = recipe
        self.patch = patch
        self.key = key

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        index = shuffled(self.key, sample, len(self.classes))
        image = view(
            self.cached[index]["image"],
            self.patch,
            self.recipe.preset.augmentation,
            seed_of(self.key, "sample", sample),
        )
        target_L = torch.zeros(len(self.recipe.regions))
        target_L[self.classes[index]] = 1
        return {"image": image, "target": target_L}
