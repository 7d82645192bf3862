"""Channels-last inference against the same network channels-first and in double precision.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medtl.inference.sliding_window import sliding_window
from medtl.networks.cpu.channels_last import ChannelsLast
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import has_bf16

BF16 = torch.autocast("cpu", torch.bfloat16)
SLOW = ("dynunet", "segresnet", "unetr")


def lies_last(image: Tensor) -> bool:
    return image.is_contiguous(memory_format=torch.channels_last_3d) and not image.is_contiguous()


class Watch(nn.Module):
    """Hands on what it gets and notes its layout."""

    def __init__(self) -> None:
        super().__init__()
        self.last: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.last.append(lies_last(image))
        return image


def emulated(name: str) -> Any:
    """Where bf16 is emulated, which nobody uses, half a minute each."""
    skipped = pytest.mark.skipif(not has_bf16("cpu"), reason="emulates bf16 for half a minute")
    return pytest.param(name, marks=skipped)


@pytest.mark.parametrize("name", ["unet", "mednext", *map(emulated, SLOW)])
def test_networks_answer_as_they_do_channels_first(name: str) -> None:
    torch.manual_seed(0)
    network = (
        load_catalog()
        .networks[name]
        .load()(in_channels=4, out_channels=3, width=16, patch_size=(32, 32, 32))
    )
    module = network.module.eval()
    image_BCIJK = torch.randn(1, 4, 32, 32, 32)
    with torch.inference_mode(), BF16:
        expected = module(image_BCIJK)
        with ChannelsLast():
            found = module(image_BCIJK.to(memory_format=torch.channels_last_3d))
    if not isinstance(found, Tensor):
        expected, found = expected[0], found[0]
    assert (found - expected).float().std() < 0.03 * expected.float().std()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16, 16), (16, 8, 24), (2, 3, 4)])
@pytest.mark.parametrize("channels", [3, 16, 24, 48])
def test_instance_norm_is_that_of_each_channel(channels: int, size: tuple[int, int, int]) -> None:
    norm = nn.InstanceNorm3d(channels, affine=True)
    nn.init.normal_(norm.weight)
    image = 5 + 3 * torch.randn(2, channels, *size)
    image_BCIJK = image.bfloat16().to(memory_format=torch.channels_last_3d)
    axes = (2, 3, 4)
    exact = image_BCIJK.double()
    centred = exact - exact.mean(axes, keepdim=True)
    scaled = centred / (exact.var(axes, keepdim=True, correction=0) + norm.eps).sqrt()
    expected = scaled * norm.weight.double().view(-1, 1, 1, 1)
    with ChannelsLast(), BF16:
        found = norm(image_BCIJK)
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.02)


@pytest.mark.skipif(not has_bf16("cpu"), reason="needs a processor that computes in bf16")
@pytest.mark.parametrize("modalities", [1, 2, 4])
def test_layers_stay_channels_last_between_convolutions(modalities: int) -> None:
    watches = [Watch() for _ in range(4)]
    module = nn.Sequential(
        *(nn.Conv3d(modalities, 16, 3), watches[0], nn.InstanceNorm3d(16), nn.PReLU(), watches[1]),
        *(nn.ConvTranspose3d(16, 16, 2), nn.InstanceNorm3d(16), watches[2]),
        *(nn.Conv3d(16, 3, 3), watches[3]),
    )
    image_CIJK = torch.randn(modalities, 24, 24, 24)
    with suited_to_cpu(module):
        sliding_window(module, image_CIJK, (24, 24, 24), out_channels=3, autocast=torch.bfloat16)
    assert [watch.last for watch in watches] == [[True]] * 3 + [[False]]


def test_float32_and_slices_stay_channels_first() -> None:
    watch = Watch()
    module = nn.Sequential(nn.Conv3d(2, 16, 3, padding=1), nn.Conv3d(16, 16, 3, padding=1), watch)
    sliding_window(module, torch.randn(2, 8, 8, 8), (8, 8, 8), out_channels=16)
    sliding_window(
        watch, torch.randn(2, 8, 8, 1), (8, 8, 1), out_channels=2, autocast=torch.bfloat16
    )
    assert watch.last == [False, False]


def test_networks_may_view_what_they_compute() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv3d(16, 16, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            found = self.convolution(image)
            return found.view(len(image), -1).view(torch.int16).view(torch.bfloat16).view_as(found)

    module = Viewing()
    image_BCIJK = torch.randn(1, 16, 8, 8, 8)
    exact = copy.deepcopy(module).double().convolution(image_BCIJK.double())
    with torch.inference_mode(), BF16, ChannelsLast():
        found = module(image_BCIJK)
    torch.testing.assert_close(found.double(), exact, atol=0.02, rtol=0.02)
