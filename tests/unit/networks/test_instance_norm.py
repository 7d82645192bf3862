"""The fast instance norm against torch's, in double precision, and its layout.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.networks.cpu.instance_norm import InstanceNorm2d, InstanceNorm3d
from medtl.networks.cpu.layout import laid_last, lies_last, with_dense_gradient
from medtl.plugins.catalog import load_catalog


def values(*shape: int) -> Tensor:
    return 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 8, 6, 7), (1, 1, 4, 4, 4), (3, 4, 9, 5)])
def test_outputs_and_gradients_are_torchs(shape: tuple[int, ...], last: bool) -> None:
    channels = shape[1]
    norm = (InstanceNorm3d if len(shape) == 5 else InstanceNorm2d)(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image = values(*shape)
    image = (laid_last(image) if last else image).requires_grad_()
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = norm(image)
    assert channels == 1 or lies_last(found) == last
    own = torch.autograd.grad(found, [image, norm.weight, norm.bias], slope)
    exact = [each.detach().double().requires_grad_() for each in (image, norm.weight, norm.bias)]
    expected = functional.instance_norm(exact[0], weight=exact[1], bias=exact[2])
    wanted = torch.autograd.grad(expected, exact, slope.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(own, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)


def test_a_single_voxel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        InstanceNorm3d(2).train()(torch.zeros(1, 2, 1, 1, 1))


@pytest.mark.parametrize("channels", [1, 4])
def test_planned_networks_train_channels_last_throughout(channels: int) -> None:
    network = (
        load_catalog()
        .networks["plain-unet"]
        .load()(in_channels=channels, out_channels=2, width=8, strides=[1, 2, 2])
    )
    layouts: list[bool] = []
    for part in network.module.modules():
        if isinstance(part, nn.InstanceNorm3d):
            part.register_forward_hook(
                lambda _part, inputs, output: layouts.extend(map(lies_last, (*inputs, output)))
            )
    with suited_to_cpu(network.module):
        network.module.train()(values(2, channels, 16, 16, 16))
    assert len(layouts) == 2 * 10 and all(layouts)


@pytest.mark.parametrize("channels", [1, 3, 5, 8, 16])
@pytest.mark.parametrize("leak", [0.01, 1.0])
@pytest.mark.parametrize("size", [(8, 8, 8), (5, 13, 3)])
def test_folded_voxels_give_the_same_norm_and_slopes(
    channels: int, leak: float, size: tuple[int, ...]
) -> None:
    """Few channels are folded where the number of voxels allows it; leaky ReLU follows."""
    norm = InstanceNorm3d(channels, leak=leak)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image = laid_last(values(2, channels, *size)).requires_grad_()
    slope = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    found = norm(image)
    own = torch.autograd.grad(found, [image, norm.weight, norm.bias], slope)
    exact = [each.detach().double().requires_grad_() for each in (image, norm.weight, norm.bias)]
    expected = functional.instance_norm(exact[0], weight=exact[1], bias=exact[2])
    expected = functional.leaky_relu(expected, leak)
    wanted = torch.autograd.grad(expected, exact, slope.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(own, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("channels", [8, 16])
def test_half_precision_is_no_worse_than_torchs(channels: int) -> None:
    """In bf16 with weights in float32, as under autocast, beside torch's own in bf16."""
    norm = InstanceNorm3d(channels, leak=0.01)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image = values(2, channels, 16, 16, 16)
    above = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))

    def run(batch: Tensor, kind: torch.dtype) -> list[Tensor]:
        leaves = [batch, *(part.detach().to(kind) for part in norm.parameters())]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        normed = functional.instance_norm(leaves[0], weight=leaves[1], bias=leaves[2])
        found = functional.leaky_relu(normed, 0.01)
        return [found, *torch.autograd.grad(found, leaves, above.to(kind))]

    exact, theirs = run(image.double(), torch.double), run(image.bfloat16(), torch.bfloat16)
    half = laid_last(image.bfloat16()).requires_grad_()
    found = norm(half)
    leaves = [half, norm.weight, norm.bias]
    ours = [found, *torch.autograd.grad(found, leaves, above.bfloat16())]
    assert found.dtype == torch.bfloat16
    for own, peer, wanted in zip(ours, theirs, exact, strict=True):
        errors = [
            float((each.detach().double() - wanted.detach()).abs().mean()) for each in (own, peer)
        ]
        assert errors[0] < 1.2 * errors[1]


def test_gradients_reach_what_is_trained_alone() -> None:
    norm = InstanceNorm3d(4, leak=0.01)
    norm.weight.requires_grad_(False)
    image = laid_last(values(1, 4, 4, 4, 4))
    norm(image).sum().backward()
    assert norm.weight.grad is None and norm.bias.grad is not None
    above_0 = (functional.instance_norm(image) > 0).sum((0, 2, 3, 4))
    torch.testing.assert_close(norm.bias.grad, above_0 + 0.01 * (64 - above_0))


@pytest.mark.parametrize("channels", [1, 4])
def test_views_with_gaps_are_normed(channels: int) -> None:
    norm = InstanceNorm3d(channels, leak=0.01)
    image = laid_last(values(2, channels, 8, 8, 8)).requires_grad_()
    found = norm(laid_last(image[..., 2:]))
    other = laid_last(values(2, channels, 8, 8, 4))
    above = laid_last(torch.randn(2, channels, 8, 8, 10))
    torch.cat((found, other), dim=4).backward(above)
    exact = image.detach().double().requires_grad_()
    expected = functional.leaky_relu(functional.instance_norm(exact[..., 2:]), 0.01)
    expected.backward(above[..., :6].double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert image.grad is not None and exact.grad is not None
    torch.testing.assert_close(image.grad.double(), exact.grad, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_concatenated_part_is_laid_out() -> None:
    part, other = laid_last(values(2, 4, 3, 5, 2)).requires_grad_(), values(2, 4, 3, 5, 2)
    slopes: list[Tensor] = []
    part.register_hook(slopes.append)
    joined = torch.cat((laid_last(other), with_dense_gradient(part)), dim=1)
    above = laid_last(values(2, 8, 3, 5, 2))
    joined.backward(above)
    assert part.grad is not None and torch.equal(part.grad, above[:, 4:])
    assert slopes[0].movedim(1, -1).is_contiguous()
