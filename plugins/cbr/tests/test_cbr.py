"""CBR networks against the figures of Raghu et al. 2019, and medtl's promises on blocks.

Axes: B batch, C channel, I J pixels.
"""

from __future__ import annotations

import pytest
import torch

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, freeze, partition, select_blocks, tensors, train_mode
from medtl.networks.hooks import block_features
from medtl_cbr.plugin import medtl_networks

COMPONENTS = {component.name: component for component in medtl_networks()}
every_network = pytest.mark.parametrize("name", list(COMPONENTS))


def build(name: str, **changes: object) -> Network:
    torch.manual_seed(0)
    settings = dict(in_channels=3, out_channels=5, spatial_dims=2, width=4) | changes
    return COMPONENTS[name].load()(**settings)


@pytest.mark.parametrize(
    ("name", "kernel", "channels", "weights"),
    [
        ("cbr-larget", 7, (32, 64, 128, 256, 512), 8_534_624),
        ("cbr-largew", 7, (64, 128, 256, 512), 8_438_976),
        ("cbr-small", 7, (32, 64, 128, 256), 2_112_096),
        ("cbr-tiny", 5, (64, 128, 256, 512), 4_305_600),
        ("cbr-tiny-table", 5, (32, 64, 128, 256), 1_077_600),
    ],
)
def test_published_convolutions(
    name: str, kernel: int, channels: tuple[int, ...], weights: int
) -> None:
    with torch.device("meta"):
        network = build(name, width=None)
    shapes = [tuple(t.shape) for t in tensors(network).values() if t.ndim == 4]
    inputs = (3, *channels)
    assert shapes == [
        (out, into, kernel, kernel) for into, out in zip(inputs, channels, strict=False)
    ]
    assert sum(torch.Size(shape).numel() for shape in shapes) == weights
    total = sum(p.numel() for p in network.module.parameters())
    assert total == weights + 2 * sum(channels) + (channels[-1] + 1) * 5


@every_network
@pytest.mark.parametrize("dims", [2, 3])
def test_one_logit_per_class_in_2d_and_3d(name: str, dims: int) -> None:
    network = build(name, spatial_dims=dims, in_channels=2, patch_size=(16,) * dims)
    network.module.eval()
    logits_BL = network.module(torch.randn(2, 2, *(16,) * dims))
    assert logits_BL.shape == (2, 5) and logits_BL.isfinite().all() and not network.dense
    assert network.input_tensors == ("stem.conv.weight",)
    assert network.head_tensors == ("head.weight", "head.bias")


def test_each_block_is_convolution_norm_relu_pooling() -> None:
    network = build("cbr-small")
    network.module.eval()
    state = network.module.state_dict()
    for name in ("stem", "encoder1"):  # as after some training
        state[f"{name}.norm.running_mean"].normal_()
        state[f"{name}.norm.bias"].normal_()
    batch_BCIJ = image_BCIJ = torch.randn(2, 3, 20, 20)
    features = block_features(network, image_BCIJ, ("stem", "encoder3"))
    for name in ("stem", "encoder1", "encoder2", "encoder3"):
        batch_BCIJ = torch.conv2d(batch_BCIJ, state[f"{name}.conv.weight"], padding=3)
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (state[f"{name}.norm.{p}"].view(-1, 1, 1) for p in parts)
        batch_BCIJ = torch.relu((batch_BCIJ - mean) / (var + 1e-5).sqrt() * scale + shift)
        if name in features:
            assert torch.allclose(features[name], batch_BCIJ, atol=1e-5)
        batch_BCIJ = torch.nn.functional.max_pool2d(batch_BCIJ, 3, 2, padding=1)
    wanted_BL = batch_BCIJ.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
    assert torch.allclose(network.module(image_BCIJ), wanted_BL, atol=1e-5)


@pytest.mark.parametrize("count", [0, 2, 5])
def test_frozen_blocks_are_bitwise_unchanged(count: int) -> None:
    network = build("cbr-larget")
    frozen = select_blocks(network, str(count))
    freeze(network, frozen)
    before = {key: tensor.detach().clone() for key, tensor in tensors(network).items()}
    train_mode(network, frozen)
    optimiser = torch.optim.AdamW([p for p in network.module.parameters() if p.requires_grad])
    network.module(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    moved = {key for key, t in tensors(network).items() if not torch.equal(t, before[key])}
    owners = partition(network)
    assert {owners[key] for key in moved} == {b.name for b in network.blocks[count:]}


def test_top_blocks_are_dropped_or_slim() -> None:
    cut = build("cbr-tiny", keep_blocks=2)
    assert [block.name for block in cut.blocks] == ["stem", "encoder1", "head"]
    assert cut.module.head.weight.shape == (5, 8)
    slim = build("cbr-tiny", slim_from=3)
    assert [t.shape[0] for t in tensors(slim).values() if t.ndim == 4] == [4, 8, 4, 8]
    with pytest.raises(ConfigError, match=r"1 to 4 \(stem, encoder1, encoder2, encoder3\), not 5"):
        build("cbr-tiny", keep_blocks=5)
