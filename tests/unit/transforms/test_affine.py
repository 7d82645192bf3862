"""Patches under an affine map against torch's ``grid_sample``, computed everywhere.

Axes: C channel, I J K voxels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional

from medtl.transforms import affine as sampling
from medtl.transforms.affine import Affine

SHAPE = (9, 7, 12)


def everywhere(affine: Affine, volume_CIJK: Tensor) -> Tensor:
    """The whole patch, by ``grid_sample``."""
    lines = [torch.arange(edge) - (edge - 1) / 2 for edge in affine.patch]
    offsets_IJK3 = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)
    places_IJK3 = affine.centre + offsets_IJK3 @ affine.matrix.T
    last = torch.tensor(volume_CIJK.shape[1:]) - 1
    grid = (2 * places_IJK3 / last - 1).flip(-1)
    return functional.grid_sample(volume_CIJK[None].float(), grid[None], align_corners=True)[0]


def random_map(seed: int, patch: tuple[int, int, int]) -> Affine:
    random = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=random))
    zoom = 0.5 + torch.rand(1, generator=random)
    centre = torch.rand(3, generator=random) * 1.4 * torch.tensor(SHAPE) - 0.2
    return Affine(centre, turn * zoom, patch)


@pytest.mark.parametrize("slab", [50, sampling.SLAB_VOXELS])
@pytest.mark.parametrize("patch", [(8, 10, 6), (20, 20, 20), (5, 6, 1)])
def test_window_shows_what_grid_sample_finds_and_the_rest_is_empty(
    patch: tuple[int, int, int], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "SLAB_VOXELS", slab)
    volume_CIJK = 1 + torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        affine = random_map(seed, patch)
        window = affine.window(SHAPE)
        found = torch.zeros(3, *patch)
        found[(slice(None), *window)] = affine.sample(volume_CIJK, window)
        torch.testing.assert_close(found, everywhere(affine, volume_CIJK), atol=1e-4, rtol=0)


def test_a_place_in_a_large_volume_is_rounded_by_a_hundredth_of_a_voxel_at_most() -> None:
    shape = (240, 240, 155)
    volume_IJK = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    affine = Affine(torch.tensor([200.3, 180.7, 77.1]), random_map(3, (1, 1, 1)).matrix, (24,) * 3)
    lines = [np.arange(edge) - (edge - 1) / 2 for edge in affine.patch]
    offsets_3IJK = np.stack(np.meshgrid(*lines, indexing="ij"))
    moved_3IJK = np.tensordot(affine.matrix.double().numpy(), offsets_3IJK, 1)
    places_3IJK = moved_3IJK + affine.centre.double().numpy()[:, None, None, None]
    expected_IJK = map_coordinates(volume_IJK.double().numpy(), places_3IJK, order=1)
    found_CIJK = affine.sample(volume_IJK[None], affine.window(shape))
    # Neighbours differ by 1 at most, so a value's error is at most that of its place.
    np.testing.assert_allclose(found_CIJK[0].numpy(), expected_IJK, atol=0.01, rtol=0)


@pytest.mark.parametrize("shape", [(40, 50, 60), (512, 512, 60), (130, 170, 1)])
def test_nothing_is_shown_beyond_the_volume(shape: tuple[int, int, int]) -> None:
    patch = (96, 64, 1 if shape[2] == 1 else 48)
    for seed in range(5):
        affine = random_map(seed, patch)
        middle = torch.tensor(shape) * torch.rand(3, generator=torch.Generator().manual_seed(seed))
        affine = replace(affine, centre=middle)
        window = affine.window(shape)
        shown_IJK = affine.sample(torch.ones(1, *shape), window)[0]
        lines = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in patch]
        offsets_IJK3 = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)[window]
        places_IJK3 = offsets_IJK3 @ affine.matrix.double().T + affine.centre.double()
        beyond_IJK = ((places_IJK3 < -1.001) | (places_IJK3 > torch.tensor(shape) + 0.001)).any(-1)
        assert beyond_IJK.any()
        assert not shown_IJK[beyond_IJK].any()


@pytest.mark.parametrize("depth", range(3, 60, 7))
def test_a_slice_takes_nothing_from_its_neighbours(depth: int) -> None:
    turn = torch.tensor([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    for k in range(1, depth - 1):
        volume_CIJK = torch.ones(1, 8, 9, depth)
        volume_CIJK[..., k] = 0
        affine = Affine(torch.tensor([3.3, 3.6, float(k)]), turn, (8, 8, 1))
        assert not affine.sample(volume_CIJK, affine.window((8, 9, depth))).any()


def test_a_part_of_the_volume_is_found_where_it_lies_in_the_whole() -> None:
    mask_CIJK = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    box = (slice(2, 5), slice(3, 6), slice(4, 9))
    mask_CIJK[(slice(None), *box)] = 1
    for seed in range(20):
        affine = random_map(seed, (12, 12, 12))
        within = affine.within(box)
        window = within.window((3, 3, 5))
        found = torch.zeros(1, 12, 12, 12)
        found[(slice(None), *window)] = within.sample(mask_CIJK[(slice(None), *box)], window)
        torch.testing.assert_close(found, everywhere(affine, mask_CIJK), atol=1e-4, rtol=0)


def test_a_patch_beside_the_volume_is_empty() -> None:
    affine = Affine(torch.tensor([40.3, 3.0, 3.0]), 0.9 * torch.eye(3), (4, 4, 4))
    window = affine.window(SHAPE)
    assert affine.sample(torch.ones(2, *SHAPE), window).numel() == 0
