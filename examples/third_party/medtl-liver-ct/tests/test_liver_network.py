"""The network coarse-unet: its size, its resolution, and that it learns.

Axes: B batch, C channel, L region, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medtl_liver_ct.network import coarse_unet


def test_weights_are_as_many_as_counted_by_hand() -> None:
    network = coarse_unet(in_channels=1, out_channels=2, spatial_dims=3, width=16)
    down = 27 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    shortcuts = 27 * (1 * 16 + 16 * 32 + 32 * 64)
    up = 27 * (64 * 32 + 64 * 32 + 32 * 32 + 32 * 16 + 32 * 16 + 16 * 16)
    shortcuts += 64 * 32 + 32 * 16  # 1x1x1, as nothing is halved
    norms = 2 * 2 * (16 + 32 + 64) + 2 * 3 * (32 + 16) + 2 * 2
    slopes = 2 * 3 + 3 * 2 + 1
    head = 27 * (16 * 2 + 2 * 2) + 2
    total = sum(parameter.numel() for parameter in network.module.parameters())
    assert total == down + shortcuts + up + norms + slopes + head


@pytest.mark.parametrize("dims", [2, 3])
def test_logits_vary_from_voxel_to_voxel_and_not_in_steps_of_two(dims: int) -> None:
    torch.manual_seed(0)
    network = coarse_unet(in_channels=1, out_channels=1, spatial_dims=dims, width=4)
    logits = network.module(torch.randn(1, 1, *(16,) * dims))
    assert logits.shape == (1, 1, *(16,) * dims)
    assert (logits.diff(dim=-1).abs() > 0).float().mean() > 0.99


def test_it_learns_one_image_by_heart() -> None:
    torch.manual_seed(0)
    network = coarse_unet(in_channels=1, out_channels=1, spatial_dims=2, width=4)
    image_BCIJ = torch.randn(1, 1, 32, 32)
    target_BLIJ = torch.zeros(1, 1, 32, 32)
    target_BLIJ[..., 8:20, 12:28] = 1
    optimiser = torch.optim.AdamW(network.module.parameters(), lr=1e-2)
    for _ in range(150):
        logits_BLIJ = network.module(image_BCIJ)
        loss = functional.binary_cross_entropy_with_logits(logits_BLIJ, target_BLIJ)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found_BLIJ = network.module(image_BCIJ) > 0
    assert (found_BLIJ == (target_BLIJ > 0)).float().mean() > 0.98
