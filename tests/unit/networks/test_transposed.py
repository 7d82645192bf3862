"""Transposed convolutions without overlap against torch's, and where they are used.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medtl.networks.cpu.layout import laid_last, lies_last
from medtl.networks.cpu.transposed import ConvTranspose2d, ConvTranspose3d, spread

Convolution = ConvTranspose2d | ConvTranspose3d


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (1, 3, 2), (2, 2)])
def test_outputs_and_gradients_are_torchs(stride: tuple[int, ...], bias: bool) -> None:
    made = ConvTranspose3d if len(stride) == 3 else ConvTranspose2d
    convolution: Convolution = made(6, 5, stride, stride, bias=bias)  # type: ignore[arg-type]
    batch = laid_last(values(2, 6, *(4, 5, 3)[: len(stride)])).requires_grad_()
    found = spread(convolution, batch)
    assert found is not None and lies_last(found)
    expected = type(convolution).__mro__[1].forward(convolution, batch)  # type: ignore[attr-defined]
    assert found.shape == expected.shape
    leaves = [batch, *convolution.parameters()]
    slope = values(*expected.shape, seed=1)
    own = torch.autograd.grad(found, leaves, slope)
    theirs = torch.autograd.grad(expected, leaves, slope)
    torch.testing.assert_close(found, expected)
    for ours, wanted in zip(own, theirs, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_it_is_for_training_channels_last_without_overlap() -> None:
    last, first = laid_last(values(1, 4, 3, 3, 3)), values(1, 4, 3, 3, 3)
    apart = ConvTranspose3d(4, 2, 2, 2)
    others = [
        ConvTranspose3d(4, 2, 3, 2),
        ConvTranspose3d(4, 2, 2, 2, padding=1),
        ConvTranspose3d(4, 2, 2, 2, output_padding=1),
        ConvTranspose3d(4, 2, 2, 2, dilation=2),
        ConvTranspose3d(4, 2, 2, 2, groups=2),
    ]
    assert spread(apart, last) is not None
    assert spread(apart, first) is None
    assert not any(spread(other, last) is not None for other in others)
    with torch.no_grad():
        assert spread(apart, last) is None
    for convolution in (apart, *others):
        wanted = nn.ConvTranspose3d.forward(convolution, first)
        torch.testing.assert_close(convolution(last), wanted)


def test_under_autocast_it_is_no_worse_than_torchs() -> None:
    convolution = ConvTranspose3d(16, 8, 2, 2)
    batch, above = (
        laid_last(values(2, 16, 4, 5, 3)).requires_grad_(),
        values(2, 8, 8, 10, 6, seed=1),
    )
    leaves = [batch, *convolution.parameters()]
    exact = nn.ConvTranspose3d.forward(convolution, batch)
    wanted = [exact, *torch.autograd.grad(exact, leaves, above)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, peer = spread(convolution, batch), nn.ConvTranspose3d.forward(convolution, batch)
    assert found is not None and found.dtype == torch.bfloat16
    ours = [found, *torch.autograd.grad(found, leaves, above.bfloat16())]
    theirs = [peer, *torch.autograd.grad(peer, leaves, above.bfloat16())]
    for own, other, right in zip(ours, theirs, wanted, strict=True):
        errors = [
            float((each.detach().float() - right.detach()).abs().mean()) for each in (own, other)
        ]
        assert errors[0] < 1.2 * errors[1] + 1e-6
