"""Logits come back to the native grid slab by slab as torch's interpolation has them.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from medtl.data.io.grids import nearest_slices
from medtl.transforms import native
from medtl.transforms.native import in_box, native_slabs, to_native
from medtl.transforms.preprocess import Placement

#: The box on the prepared and on the native grid: finer, coarser, both, equal.
GRIDS = [
    ((9, 12, 7), (17, 23, 15)),
    ((17, 23, 15), (9, 12, 4)),
    ((9, 30, 7), (21, 11, 7)),
    ((6, 5, 4), (6, 5, 4)),
    ((1, 5, 4), (8, 1, 9)),
]


def logits(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(0))


def by_torch(logits_LIJK: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return interpolate(logits_LIJK[None], size=size, mode="trilinear", align_corners=False)[0]


@pytest.mark.parametrize(("prepared", "size"), GRIDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("slab", [1, 400, 1 << 24])
def test_slabs_equal_torchs_interpolation(
    monkeypatch: pytest.MonkeyPatch,
    prepared: tuple[int, ...],
    size: tuple[int, ...],
    axis: int,
    planes: int,
    slab: int,
) -> None:
    monkeypatch.setattr(native, "SLAB", slab)
    placement = Placement(size, (0, 0, 0), size, (0, 1, 2), (False, False, False))
    logits_LIJK = logits(prepared)
    chunks = logits_LIJK.split(planes, 1 + axis)
    found = torch.full((3, *size), torch.nan)
    last = 0
    for where, slab_LIJK in native_slabs(chunks, prepared[axis], axis, placement):
        assert where.start == last  # in order, none left out
        last = where.stop
        found.narrow(1 + axis, where.start, where.stop - where.start).copy_(slab_LIJK)
    assert last == size[axis]
    torch.testing.assert_close(found, by_torch(logits_LIJK, size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thick", [0, 1, 2])
def test_thick_slices_are_not_mixed(axis: int, thick: int) -> None:
    prepared, size = (9, 12, 7), (17, 23, 15)
    placement = Placement(size, (0, 0, 0), size, (0, 1, 2), (False, False, False), thick)
    logits_LIJK = logits(prepared)
    within = tuple(prepared[n] if n == thick else edge for n, edge in enumerate(size))
    nearest = torch.tensor(nearest_slices(prepared[thick], size[thick]))
    expected = by_torch(logits_LIJK, within).index_select(1 + thick, nearest)
    parts = native_slabs(logits_LIJK.split(2, 1 + axis), prepared[axis], axis, placement)
    found = torch.cat([slab for _, slab in parts], 1 + axis)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_axes_flips_and_box() -> None:
    """A native voxel of the box gets the logit that its place in the prepared grid has."""
    size, start, axes, flips = (4, 5, 6), (1, 0, 2), (2, 0, 1), (True, False, True)
    shape = (5, 9, 6)  # of the native axes: that of RAS axis n has size[n] + start[n] + 1 or less
    placement = Placement(shape, start, size, axes, flips)
    logits_LIJK = logits(size)
    found = to_native(logits_LIJK, placement, -20.0)
    assert tuple(found.shape) == (3, *shape)
    seen = torch.full((3, *shape), -20.0)
    for voxel in product(*map(range, size)):
        place = [0, 0, 0]
        for ras, native_axis in enumerate(axes):
            at = start[ras] + voxel[ras]
            place[native_axis] = shape[native_axis] - 1 - at if flips[ras] else at
        seen[(slice(None), *place)] = logits_LIJK[(slice(None), *voxel)]
    torch.testing.assert_close(found, seen)
    view = in_box(found.numpy(), placement)
    np.testing.assert_array_equal(view, logits_LIJK.numpy())
