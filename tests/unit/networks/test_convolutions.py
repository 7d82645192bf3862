"""Gradients of convolutions over volumes smaller than their kernel, against double precision.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from terminal import run_python
from torch import nn

from medtl.networks.cpu.convolutions import suited_to_cpu


def stir() -> None:
    """Leave NaN in freed memory, where a kernel that does not write its output would find it."""
    for count in (1 << power for power in range(8, 21, 2)):
        kept = [torch.full((count,), float("nan")) for _ in range(3)]
        del kept


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 8, 8), (8, 8, 8)])
@pytest.mark.parametrize("layer", [nn.Conv3d, nn.ConvTranspose3d])
@pytest.mark.parametrize("width", [3, 5])
def test_weight_gradient_in_bf16_is_near_double_precision(
    size: tuple[int, int, int], layer: type[nn.Conv3d | nn.ConvTranspose3d], width: int
) -> None:
    torch.manual_seed(0)
    convolution = layer(16, 16, width, padding=width // 2)
    exact = copy.deepcopy(convolution).double()
    image_BCIJK = torch.randn(2, 16, *size)
    slope_BCIJK = torch.randn(2, 16, *size)
    exact(image_BCIJK.double()).backward(slope_BCIJK.double())
    expected = exact.weight.grad
    assert expected is not None
    for _ in range(5):
        convolution.zero_grad()
        stir()
        with torch.autocast("cpu", torch.bfloat16), suited_to_cpu(convolution):
            output_BCIJK = convolution(image_BCIJK)
        stir()
        output_BCIJK.backward(slope_BCIJK.to(output_BCIJK.dtype))
        assert convolution.weight.grad is not None
        error = (convolution.weight.grad.double() - expected).abs().max()
        assert error < 0.02 * expected.abs().max()


def test_only_small_volumes_leave_bf16() -> None:
    convolution = nn.Conv3d(2, 2, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16), suited_to_cpu(convolution):
        assert convolution(torch.ones(1, 2, 2, 4, 4)).dtype == torch.float32
        assert convolution(torch.ones(1, 2, 3, 3, 3)).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(torch.ones(1, 2, 2, 4, 4)).dtype == torch.bfloat16


OVERRUN = """
import torch
from torch import nn
from medtl.networks.cpu.convolutions import suited_to_cpu
torch.set_num_threads(1)
for size in (8, 16, 32, 64):
    for _ in range(5):
        module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 1, stride=2))
        with suited_to_cpu(module):
            module(torch.randn(2, 1, size, size)).square().mean().backward()
"""


def test_strided_pointwise_maps_of_few_channels_do_not_overrun_memory() -> None:
    """With the kernels of a processor without AVX-512: a process of its own, which may crash."""
    kernels = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run_python("-c", OVERRUN, code=0, environment=kernels, timeout=120)


def test_a_failing_convolution_leaves_autocast_on() -> None:
    convolution = nn.Conv3d(2, 2, 3)
    with torch.autocast("cpu", torch.bfloat16), suited_to_cpu(convolution):
        with pytest.raises(RuntimeError):
            convolution(torch.ones(1, 3, 2, 2, 2))
        assert torch.is_autocast_enabled("cpu")


def test_hardly_any_channels_run_channels_last_and_come_back() -> None:
    seen: list[bool] = []

    class Watched(nn.Conv3d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            last = torch.channels_last_3d
            seen.append(image.is_contiguous(memory_format=last) and not image.is_contiguous())
            return super().forward(image)

    module = nn.Sequential(Watched(8, 3, 3, padding=1), nn.Conv3d(3, 3, 1), Watched(3, 8, 3))
    module.append(Watched(8, 8, 3))
    image_BCIJK = torch.randn(1, 8, 9, 10, 11)
    expected = module(image_BCIJK)
    seen.clear()
    with suited_to_cpu(module):
        found = module(image_BCIJK)
    assert seen == [True, True, False]
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected)


def test_it_may_be_used_by_several_threads() -> None:
    module = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1))
    images = torch.randn(16, 1, 2, 6, 6, 2)
    expected = [module(image_BCIJK) for image_BCIJK in images]

    def compute(image_BCIJK: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return module(image_BCIJK)

    with suited_to_cpu(module), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compute, images))
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == torch.float32  # smaller than the kernel
        torch.testing.assert_close(got, wanted)


class Flat(nn.Module):
    """One channel in, maps of 144 pixels, then of 16, whose layers view them as channels-first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, stride=3), nn.Conv2d(16, 4, 3, padding=1))
        self.last: list[bool] = []
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(self._note)

    def _note(self, _part: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        self.last.append(not output.is_contiguous())

    def forward(self, image_BCIJ: torch.Tensor) -> torch.Tensor:
        maps_BCIJ = self.stem(image_BCIJ)
        maps_BCIJ = maps_BCIJ.view(len(maps_BCIJ), -1).view(maps_BCIJ.shape)
        return self.deep(maps_BCIJ).view(len(image_BCIJ), -1)


def test_flat_networks_train_channels_last_to_the_same_gradients() -> None:
    torch.manual_seed(0)
    module = Flat()
    exact = copy.deepcopy(module).double()
    image_BCIJ = torch.randn(6, 1, 12, 12) + 3
    exact(image_BCIJ.double()).square().mean().backward()
    module.last.clear()
    with suited_to_cpu(module):
        module(image_BCIJ).square().mean().backward()
    assert module.last == [True, True, False]
    for found, expected in zip(module.parameters(), exact.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None
        assert found.grad.is_contiguous()
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(8), nn.GroupNorm(2, 8)])
def test_norms_slow_channels_last_keep_flat_networks_channels_first(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), norm, nn.Conv2d(8, 4, 3))
    with suited_to_cpu(module):
        assert module(torch.randn(2, 4, 9, 9)).is_contiguous()
