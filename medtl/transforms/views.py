"""Whole preprocessed images as a network's input, with or without augmentation.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medtl.transforms.augment import NONE, Augmentation, Draw, apply_to_image, draw
from medtl.transforms.augment_pictures import augmented, framed


def view(
    image_CIJK: Tensor, patch: Sequence[int], augmentation: Augmentation = NONE, seed: int = 0
) -> Tensor:
    """The image in the middle of a patch (C, then as many axes as the patch has).

    The padding of a volume is 0, that of a picture its darkest value.
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

    It is 0 outside the view.
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
