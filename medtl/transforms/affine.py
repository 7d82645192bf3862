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
        # Pad by one zero before and two after; places further away are clamped to the padding.
        padded_CIJK = functional.pad(volume_CIJK.float(), (1, 2) * 3)
        places = []  # along each axis of the volume: of a voxel's i, and of its j and k
        for axis in range(3):
            i, j, k = (step * line for step, line in zip(self.matrix[axis], offsets, strict=True))
            places.append((i[:, None, None] + (self.centre[axis] + 1), j[:, None] + k))
        sampled_CIJK = torch.empty(len(volume_CIJK), *size)
        step = max(1, SLAB_VOXELS // (size[1] * size[2]))
        for first in range(0, size[0], step):
            part = slice(first, first + step)
            places_IJK = [row[part] + plane for row, plane in places]
            _interpolate(padded_CIJK, places_IJK, sampled_CIJK[:, part].flatten(1))
        return sampled_CIJK

    def _on_voxels(self) -> bool:
        """Whether the map needs no interpolation."""
        corner = [float(c) - (n - 1) / 2 for c, n in zip(self.centre, self.patch, strict=True)]
        return all(at.is_integer() for at in corner) and torch.equal(
            self.matrix.abs(), torch.eye(3)
        )


def _interpolate(volume_CIJK: Tensor, places_IJK: Sequence[Tensor], sampled_CV: Tensor) -> None:
    """Trilinear interpolation at these places, written to ``sampled_CV``.

    ``places_IJK``, one tensor per axis of the volume, are changed in place. Rounding moves a place
    by up to 1e-7 of the number of rows (voxels). The volume is padded by one voxel at the end.
    """
    channels, planes, height, width = volume_CIJK.shape
    rows_1CRK = volume_CIJK.reshape(1, channels, planes * height, width)
    before_1CRK, after_1CRK = rows_1CRK[:, :, :-height], rows_1CRK[:, :, height:]
    i, j, k = places_IJK
    plane = i.clamp_(0, planes - 2).floor()
    share_V = i.sub_(plane).flatten()
    row = j.clamp_(0, height - 2).add_(plane, alpha=height)
    # grid_sample counts from -1 to 1 along the width, then along the height.
    grid_IJK2 = torch.empty(*k.shape, 2)
    torch.mul(k.clamp_(0, width - 2), 2 / (width - 1), out=grid_IJK2[..., 0])
    torch.mul(row, 2 / (before_1CRK.shape[2] - 1), out=grid_IJK2[..., 1])
    grid_11V2 = grid_IJK2.sub_(1).view(1, 1, -1, 2)
    before_CV, after_CV = (
        functional.grid_sample(plane_1CRK, grid_11V2, align_corners=True)[0, :, 0]
        for plane_1CRK in (before_1CRK, after_1CRK)
    )
    torch.lerp(before_CV, after_CV, share_V, out=sampled_CV)


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
