"""Pictures in a network's input frame, and their augmentation, a whole batch at once.

The result of a picture does not depend, to the bit, on the others of the batch. Beyond its edges a
channel has its darkest value, like air, so that no bars show a picture's shape.

Axes: B picture, C channel, I rows, J columns, K the one slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medtl.transforms.augment import Draw, shaded


def framed(picture_CIJK: Tensor, frame: tuple[int, int]) -> Tensor:
    """CIJ, in the middle of the frame; a larger picture is cropped."""
    picture_CIJ = picture_CIJK[..., 0]
    if picture_CIJ.shape[1:] == frame:
        return picture_CIJ
    shown_CIJ = picture_CIJ.amin((1, 2), keepdim=True).repeat(1, *frame)
    inner, outer = [slice(None)], [slice(None)]
    for size, edge in zip(picture_CIJ.shape[1:], frame, strict=True):
        start = (edge - size) // 2
        inner.append(slice(max(0, -start), max(0, -start) + min(size, edge)))
        outer.append(slice(max(0, start), max(0, start) + min(size, edge)))
    shown_CIJ[tuple(outer)] = picture_CIJ[tuple(inner)]
    return shown_CIJ


def augmented(drawn: Sequence[Draw], pictures_BCIJ: Tensor) -> Tensor:
    """Framed pictures, augmented by one draw each; the frame is a patch of one slice."""
    _, _, i, j = pictures_BCIJ.shape
    dark_BC11 = pictures_BCIJ.amin((2, 3), keepdim=True)
    shown_BCIJ = functional.grid_sample(
        pictures_BCIJ - dark_BC11, _places(drawn, (i, j)), align_corners=True
    )
    shown_BCIJ += dark_BC11
    window = (slice(0, i), slice(0, j), slice(0, 1))
    for picture_CIJ, one in zip(shown_BCIJ, drawn, strict=True):
        noise_source = torch.Generator().manual_seed(one.noise_seed)
        rows = zip(picture_CIJ, one.channels, strict=True)
        for channel, (values_IJ, settings) in enumerate(rows):
            values_IJK = values_IJ[..., None]
            changed_IJK = shaded(values_IJK, settings, noise_source, window, (i, j, 1))
            if channel in one.missing:
                values_IJK.zero_()
            elif changed_IJK is not values_IJK:
                values_IJK.copy_(changed_IJK)
    return shown_BCIJ


def _places(drawn: Sequence[Draw], frame: tuple[int, int]) -> Tensor:
    """The place of each pixel in its picture for grid_sample: column, then row, -1 to 1.

    Computed by products and sums alone, whose results do not depend on the size of the batch.
    """
    offsets = [torch.arange(edge) - (edge - 1) / 2 for edge in frame]
    matrix_B22 = torch.stack([one.matrix[:2, :2] for one in drawn])
    middle_B2 = torch.stack([one.centre[:2] for one in drawn])
    places_BIJ2 = torch.empty(len(drawn), *frame, 2)
    for axis, edge in enumerate(frame):
        scale = 2 / max(edge - 1, 1)
        along_BI, across_BJ = (
            matrix_B22[:, axis, other, None] * (offsets[other] * scale) for other in (0, 1)
        )
        along_BI = along_BI + (middle_B2[:, axis, None] - (edge - 1) / 2) * scale
        torch.add(along_BI[:, :, None], across_BJ[:, None], out=places_BIJ2[..., 1 - axis])
    return places_BIJ2
