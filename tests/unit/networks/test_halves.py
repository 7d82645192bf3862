"""Convolutions of two halves against those of the whole, in double precision.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.networks.cpu.halves import halves_of

SIZES = [(5, 7, 6), (9, 4, 3), (8, 8, 8), (2, 1, 1), (3, 3, 17)]


def run(convolution: nn.Module, image: Tensor) -> list[Tensor]:
    """Output and gradients of image, weight and bias."""
    image = image.clone().requires_grad_()
    convolution.zero_grad()
    output = convolution(image)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output, image.grad, *(p.grad.clone() for p in convolution.parameters())]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 0},
        {"kernel_size": 3, "padding": 2, "stride": 2},
        {"kernel_size": (5, 3, 3), "padding": (2, 1, 1)},
        {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "stride": (1, 2, 2)},
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "padding": 1, "stride": 3},
    ],
)
def test_halves_give_the_whole(size: tuple[int, int, int], settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(4, 5, **settings)
    kernel, padding = convolution.kernel_size, convolution.padding
    pairs = zip(size, kernel, padding, strict=True)
    if any(edge + 2 * pad < width for edge, width, pad in pairs):
        pytest.skip("the kernel is larger than the image")
    image = torch.randn(1, 4, *size)
    expected = run(convolution.double(), image.double())
    with suited_to_cpu(convolution.float()):
        found = run(convolution, image)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_only_small_single_images_in_float32_are_cut() -> None:
    convolution = nn.Conv3d(8, 8, 3, padding=1)
    small = torch.randn(1, 8, 10, 12, 9)
    cut = halves_of(convolution, small)
    assert cut is not None and cut.axis == 3
    assert cut.split(small).shape == (2, 8, 10, 7, 9)  # six voxels and one that the kernel reaches
    assert halves_of(convolution, torch.cat((small, small))) is None
    assert halves_of(convolution, torch.randn(1, 8, 64, 64, 9)) is None
    assert halves_of(convolution, small.double()) is None
    assert halves_of(nn.Conv3d(8, 8, 1), small) is None
    assert halves_of(nn.Conv3d(8, 8, 3, groups=2), small) is None
    assert halves_of(nn.Conv3d(8, 8, 3, dilation=2), small) is None
    assert halves_of(nn.Conv3d(8, 8, 3, padding="same"), small) is None
    assert halves_of(nn.ConvTranspose3d(8, 8, 2, 2), small) is None
    assert halves_of(convolution, small[0]) is None


class PadsItself(nn.Conv3d):
    """Its attributes do not say how it pads."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(image, (1,) * 6))


def test_convolutions_of_others_are_left_alone() -> None:
    convolution, image = PadsItself(4, 5, 3), torch.randn(1, 4, 5, 6, 7)
    expected = convolution(image)
    with suited_to_cpu(convolution):
        torch.testing.assert_close(convolution(image), expected)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv3d(4, 5, 3, padding=1))
    assert halves_of(parametrized, image) is not None


def test_layout_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels-last in, channels-last out, as without halves."""
    convolution = nn.Conv3d(16, 16, 3, padding=1)
    image = torch.randn(1, 10, 12, 9, 16).movedim(-1, 1)
    with suited_to_cpu(convolution):
        assert convolution(image).stride(1) == 1
        assert convolution(image.contiguous()).stride(1) > 1


def test_hooks_of_others_see_whole_images() -> None:
    convolution, seen = nn.Conv3d(4, 4, 3, padding=1), []
    note = lambda module, inputs, output: seen.append((inputs[0].shape, output.shape))  # noqa: E731
    convolution.register_forward_hook(note)
    with suited_to_cpu(convolution):
        convolution.register_forward_hook(note)
        convolution(torch.ones(1, 4, 5, 6, 7))
    assert [output for _, output in seen] == [(1, 4, 5, 6, 7)] * 2


def test_error_in_a_convolution_leaves_nothing_behind() -> None:
    convolution = nn.Conv3d(4, 4, 3, padding=1)
    with suited_to_cpu(convolution):
        with pytest.raises(RuntimeError):
            convolution(torch.randn(1, 3, 5, 5, 5))
        found = convolution(torch.ones(1, 4, 5, 5, 5))
    assert found.shape == (1, 4, 5, 5, 5)
