"""2-D weights in 3-D networks answer a stack of equal slices as they answer the slice.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medtl.errors import WeightsError
from medtl.networks.blocks import Network, tensors
from medtl.plugins.catalog import load_catalog
from medtl.transfer.channel_adaptation import inflate
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights

COLOURS, CLASSES = ("red", "green", "blue"), ("a", "b")


def resnet(dims: int, channels: int = 3, **options: object) -> Network:
    torch.manual_seed(dims)
    builder = load_catalog().networks["resnet18"].load()
    return builder(in_channels=channels, out_channels=2, spatial_dims=dims, width=4, **options)


def weights_of(network: Network) -> Weights:
    state = {name: tensor.detach() for name, tensor in tensors(network).items()}
    return Weights(Path("flat.pth"), state, {"modalities": list(COLOURS)}, "state dict")


@pytest.mark.parametrize("slices", [1, 3, 5])
def test_a_stack_of_equal_slices_is_answered_like_the_slice(slices: int) -> None:
    weight_OIhw, image_BCIJ = torch.randn(4, 3, 3, 5), torch.randn(2, 3, 12, 12)
    wanted_BOIJ = torch.conv2d(image_BCIJ, weight_OIhw)
    stack_BCIJK = image_BCIJ.unsqueeze(-1).repeat(1, 1, 1, 1, slices + 2)
    found_BOIJK = torch.conv3d(stack_BCIJK, inflate(weight_OIhw, slices))
    assert found_BOIJK.shape[-1] == 3
    for k in range(3):
        assert torch.allclose(found_BOIJK[..., k], wanted_BOIJ, atol=1e-5)


def test_a_whole_encoder_is_inflated_and_the_receipt_tells() -> None:
    flat, deep = resnet(2), resnet(3)
    receipt = transfer(deep, weights_of(flat), modalities=COLOURS, regions=CLASSES)
    assert receipt.transferred == 1
    ways = {row.name: row.status for row in receipt.tensors}
    convolutions = {name for name, tensor in tensors(deep).items() if tensor.ndim == 5}
    assert {name for name, way in ways.items() if way == "adapted"} == convolutions
    assert {ways[name] for name in ways.keys() - convolutions} == {"loaded"}
    stem = next(row for row in receipt.tensors if row.name == "conv1.weight")
    assert stem.note.startswith("2-D, repeated over 7 slices / 7")
    assert stem.factors["inflated"] == pytest.approx(1 / 7)
    assert "20 2-D convolutions are repeated over the slices of 3-D ones" in receipt.notes
    found = tensors(deep)["layer2.0.conv1.weight"]
    wanted = tensors(flat)["layer2.0.conv1.weight"]
    assert torch.allclose(found.sum(-1), wanted, atol=1e-6)


def test_channels_are_adapted_by_name_while_they_are_inflated() -> None:
    flat, deep = resnet(2), resnet(3, channels=2)
    receipt = transfer(deep, weights_of(flat), modalities=("blue", "red"), regions=CLASSES)
    stem_OCIJK, stem_OHIJ = tensors(deep)["conv1.weight"], tensors(flat)["conv1.weight"]
    scale = (3 / 2) ** 0.5  # three channels became two, see medtl.transfer.channel_adaptation
    assert torch.allclose(stem_OCIJK.sum(-1), scale * stem_OHIJ[:, [2, 0]], atol=1e-6)
    assert receipt.new_modalities == ()


def test_the_stem_alone_is_inflated_where_the_rest_is_to_be_random() -> None:
    deep = resnet(3)
    before = tensors(deep)["layer1.0.conv1.weight"].detach().clone()
    later = tuple(block.name for block in deep.blocks[1:])
    transfer(deep, weights_of(resnet(2)), modalities=COLOURS, regions=CLASSES, reinit=later)
    assert torch.equal(tensors(deep)["layer1.0.conv1.weight"], before)
    assert torch.allclose(
        tensors(deep)["conv1.weight"].sum(-1), tensors(resnet(2))["conv1.weight"], atol=1e-6
    )


def test_3d_weights_do_not_fit_a_2d_network() -> None:
    with pytest.raises(WeightsError, match="the file's convolutions are 3-D, these are 2-D"):
        transfer(resnet(2), weights_of(resnet(3)), modalities=COLOURS, regions=CLASSES)


def test_flat_weights_whose_head_was_made_for_pictures_are_refused_with_a_way_that_works() -> None:
    build = load_catalog().networks["vgg11"].load()
    flat, deep = (
        build(in_channels=3, out_channels=2, spatial_dims=dims, width=4) for dims in (2, 3)
    )
    words = {"modalities": COLOURS, "regions": CLASSES}
    with pytest.raises(WeightsError, match="--strategy transfusion --depth 5, or") as refused:
        transfer(deep, weights_of(flat), **words)
    assert "classifier.0.weight" in str(refused.value) and "matching" not in str(refused.value)
    reinit = tuple(block.name for block in deep.blocks[5:])
    assert transfer(deep, weights_of(flat), **words, reinit=reinit).transferred > 0
