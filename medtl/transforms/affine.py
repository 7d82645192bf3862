"""Patches of a volume under an affine map, computed only where they overlap it.

A patch is often larger than the preprocessed head, and most of a target is background. Trilinear
interpolation is two bilinear ones, in the planes before and after a place, and a linear one between
them: torch's ``grid_sample`` is several times as fast in two dimensions as in three (CPU, torch
2.13).

Axes: C channel, I J K voxels, R rows (the planes of a volume, one below the other), V voxels in
one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Window = tuple[slice, slice, slice]


#: Voxels interpolated at once, so that their places and values fit the processor's cache.
SLAB_VOXELS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """The places of a patch's voxels in a volume (voxels).

    ``matrix`` maps offsets from the middle of the patch to offsets from ``centre``.
    """

    centre: Tensor
    matrix: Tensor
    patch: tuple[int, int, int]

    def within(self, box: Sequence[slice]) -> Affine:
        """The same map into a box of the volume."""
        start = torch.tensor([side.start for side in box])
        return Affine(self.centre - start, self.matrix, self.patch)

    def window(self, shape: Sequence[int]) -> Window:
        """The box of the patch that may overlap a volume of ``shape``."""
        corners = torch.tensor(list(product(*((-1, size) for size in shape))), dtype=torch.float64)
        offsets = (corners - self.centre) @ self.matrix.double().inverse().T
        sides = []
        for line, edge in zip(offsets.T.tolist(), self.patch, strict=True):
            first, last = (value + (edge - 1) / 2 for value in (min(line), max(line)))
            start = min(max(math.ceil(first), 0), edge)
            sides.append(slice(start, min(max(math.floor(last) + 1, start), edge)))
        return sides[0], sides[1], sides[2]

    def sample(self, volume_CIJK: Tensor, window: Window) -> Tensor:
        """The values in a window of the patch, float32; 0 outside the volume."""
        offsets = [
            torch.arange(side.start, side.stop) - (edge - 1) / 2
            for side, edge in zip(window, self.patch, strict=True)
        ]
        size = [len(line) for line in offsets]
        if 0 in size:
            return torch.zeros(len(volume_CIJK), *size)
        if self._on_voxels():
            ends = [
                sorted(round(float(at + self.matrix[axis, axis] * line[end])) for end in (0, -1))
                for axis, (at, line) in enumerate(zip(self.centre, offsets, strict=True))
            ]
            against = [1 + axis for axis in range(3) if self.matrix[axis, axis] < 0]
            return _cut(volume_CIJK, [first for first, _ in ends], size).float().flip(against)
        planes = _Planes(volume_CIJK)
        places = []  # along each axis of the padded volume: of a voxel's i, and of its j and k
        for axis in range(3):
            i, j, k = (step * line for step, line in zip(self.matrix[axis], offsets, strict=True))
            places.append((i[:, None, None] + (self.centre[axis] + 1), j[:, None] + k))
        sampled_CIJK = torch.empty(len(volume_CIJK), *size)
        step = max(1, SLAB_VOXELS // (size[1] * size[2]))
        for first in range(0, size[0], step):
            part = slice(first, first + step)
            places_IJK = [row[part] + plane for row, plane in places]
            sampled_CIJK[:, part] = planes.interpolate(places_IJK)
        return sampled_CIJK

    def _on_voxels(self) -> bool:
        """Whether the map needs no interpolation."""
        corner = [float(c) - (n - 1) / 2 for c, n in zip(self.centre, self.patch, strict=True)]
        return all(at.is_integer() for at in corner) and torch.equal(
            self.matrix.abs(), torch.eye(3)
        )


class _Planes:
    """The planes of a volume as one image, one below the other, with zeros around each.

    ``grid_sample`` counts from -1 to 1 along an axis. Its numbers are exact at every voxel where an
    axis has one voxel more than a power of two, so the image claims such a size; nothing is read
    beyond the planes. Then only what lies beside a voxel contributes to a value, however a place
    is rounded, and the background stays 0.
    """

    def __init__(self, volume_CIJK: Tensor) -> None:
        """Pad by one zero before and two after: places further away are clamped to them."""
        channels, *inner = volume_CIJK.shape
        planes, height, width = self.sizes = [n + 3 for n in inner]
        self.ends = [1 << (n - 1).bit_length() for n in (width, planes * height)]
        row, column = self.ends[1] + 1, self.ends[0] + 1
        stored = torch.empty(channels, (row + height) * width + column)
        filled_CIJK = stored[:, : planes * height * width].view(channels, planes, height, width)
        filled_CIJK.zero_()[:, 1:-2, 1:-2, 1:-2] = volume_CIJK
        size, strides = (1, channels, row, column), (0, stored.stride(0), width, 1)
        self.image_1CRK = stored.as_strided(size, strides)
        self.next_1CRK = stored.as_strided(size, strides, height * width)  # one plane further

    def interpolate(self, places_IJK: Sequence[Tensor]) -> Tensor:
        """The values (CIJK) at these places, one tensor per axis, which are changed in place.

        They count from the padding, which is voxel 0.
        """
        i, j, k = (
            place_IJK.clamp_(0, size - 2)
            for place_IJK, size in zip(places_IJK, self.sizes, strict=True)
        )
        plane = i.floor()
        share_V = i.sub_(plane).flatten()
        row = j.add_(plane, alpha=self.sizes[1])
        grid_IJK2 = torch.empty(*k.shape, 2)
        for axis, (place, end) in enumerate(zip((k, row), self.ends, strict=True)):
            torch.mul(place, 2 / end, out=grid_IJK2[..., axis])
        grid_11V2 = grid_IJK2.sub_(1).view(1, 1, -1, 2)
        value_CV, next_CV = (
            functional.grid_sample(image_1CRK, grid_11V2, align_corners=True)[0, :, 0]
            for image_1CRK in (self.image_1CRK, self.next_1CRK)
        )
        return value_CV.lerp_(next_CV, share_V).view(-1, *i.shape)


def _cut(volume_CIJK: Tensor, corner: Sequence[int], size: Sequence[int]) -> Tensor:
    """The patch that begins at ``corner``, padded with 0 outside the volume."""
    inside: list[slice] = []
    margins: list[int] = []  # as pad() takes them, the last axis first
    for start, edge, length in zip(corner, size, volume_CIJK.shape[1:], strict=True):
        first, last = (min(max(at, 0), length) for at in (start, start + edge))
        before = min(max(-start, 0), edge)
        inside.append(slice(first, last))
        margins = [before, edge - before - (last - first), *margins]
    return functional.pad(volume_CIJK[(slice(None), *inside)], margins)
