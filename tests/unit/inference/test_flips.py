"""Test-time flips: the mean over all mirrorings. Axes: B C/L I J K."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from medtl.inference.flips import flipped, orientations
from medtl.inference.segmentation import Segmenter
from medtl.inference.sliding_window import sliding_window
from medtl.networks.blocks import Block, Network
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr_plain

SIZE, ROI = (17, 22, 14), (12, 16, 8)


def lopsided(dims: int = 3) -> nn.Module:
    """A convolution that sees left and right, in all axes, differently."""
    torch.manual_seed(0)
    return (nn.Conv3d if dims == 3 else nn.Conv2d)(2, 3, 3, padding=1).eval()


class EvenHanded(nn.Module):
    """Mirroring the image mirrors the logits: a symmetric kernel between two pointwise layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv3d(2, 4, 1), nn.Tanh(), nn.AvgPool3d(3, 1, 1), nn.Conv3d(4, 3, 1)
        )

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        return self.layers(batch_BCIJK)


def explicit_mean(network, batch: Tensor) -> Tensor:
    """Every subset of the axes mirrored there and back, added up in float64."""
    dims = batch.ndim - 2
    total = 0
    for choice in product((False, True), repeat=dims):
        axes = [2 + axis for axis, chosen in enumerate(choice) if chosen]
        total = total + torch.flip(network(torch.flip(batch, axes)), axes).double()
    return (total / 2**dims).float()


def image(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def predictor(network: Network, patch: tuple[int, ...]) -> Segmenter:
    preprocessor = Preprocessor(("flair", "t1ce"), ("WT", "TC", "ET"), brain_mr_plain())
    return Segmenter(network, preprocessor, patch, build_fabric("cpu", "fp32"), nested=False)


def as_network(module: nn.Module) -> Network:
    return Network("n", module, (Block("head", "head", ("*",)),), 2, 3, 3, 1, (), ())


def test_there_are_8_orientations_in_3d_and_4_in_2d() -> None:
    assert [len(set(orientations(range(dims)))) for dims in (2, 3)] == [4, 8]
    assert orientations([2]) == [(), (4,)]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_equals_the_mean_over_flipped_inputs(dims: int, batch_size: int) -> None:
    network, batch = lopsided(dims), image(batch_size, 2, *(9, 8, 7)[:dims])
    found = flipped(network, range(dims))(batch)
    torch.testing.assert_close(found, explicit_mean(network, batch))
    assert not torch.allclose(found, network(batch), atol=1e-2)


@torch.no_grad()
def test_even_handed_network_gives_the_same_with_flips() -> None:
    network = as_network(EvenHanded().eval())
    plain = predictor(network, ROI)
    mirrored = replace(plain, flips=True)
    for size in (SIZE, (12, 16, 8), (5, 9, 30)):
        torch.testing.assert_close(
            mirrored.prepared_logits(image(2, *size)), plain.prepared_logits(image(2, *size))
        )


def test_each_window_is_flipped_on_its_own() -> None:
    network = lopsided()
    found = sliding_window(flipped(network, range(3)), image(2, *SIZE), ROI, out_channels=3)
    with torch.no_grad():
        expected = sliding_window_inference(
            image(2, *SIZE)[None], ROI, 1, lambda b: explicit_mean(network, b), 0.5, "gaussian"
        )[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_predictor_averages_over_8_mirrored_volumes() -> None:
    """In one pass and without padding, mirroring windows is mirroring the volume."""
    builder = load_catalog().networks["unet"].load()
    torch.manual_seed(0)
    plain = predictor(builder(in_channels=2, out_channels=3, width=4), (32, 32, 32))
    mirrored = replace(plain, flips=True)
    volume = image(2, 32, 32, 32)
    expected = explicit_mean(lambda b: plain.prepared_logits(b[0])[None], volume[None])[0]
    found = mirrored.prepared_logits(volume)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain.prepared_logits(volume)).abs().max() > 0.01


@torch.no_grad()
def test_2d_network_is_flipped_within_its_slices() -> None:
    builder = load_catalog().networks["unet2d-37"].load()
    torch.manual_seed(0)
    plain = predictor(builder(in_channels=2, out_channels=3, width=2), (32, 32))
    mirrored = replace(plain, flips=True)
    volume = image(2, 32, 48, 3)
    total = 0
    for axes in ((), (1,), (2,), (1, 2)):
        total = total + plain.prepared_logits(volume.flip(axes)).flip(axes)
    torch.testing.assert_close(mirrored.prepared_logits(volume), total / 4, rtol=1e-4, atol=1e-4)
