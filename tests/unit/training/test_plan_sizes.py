"""The patch that a plan chooses is one that the network trains on."""

from __future__ import annotations

import pytest
import torch

from medtl.networks.blocks import Network
from medtl.networks.builder import takes_patch
from medtl.plugins.catalog import load_catalog
from medtl.training.plan import _accepted


def built(name: str, patch_size: tuple[int, ...] | None = None) -> Network:
    builder = load_catalog().networks[name].load()
    return builder(in_channels=1, out_channels=2, width=4, patch_size=patch_size)


@pytest.mark.parametrize("name", ["unet", "basic-unet", "dynunet", "segresnet"])
def test_small_images_get_a_patch_that_the_network_takes(name: str) -> None:
    patch = _accepted(built(name), (16, 16, 16), 16)
    network = built(name, patch)  # refuses a patch that it cannot take
    raw = network.module.train()(torch.zeros(1, 1, *patch))  # as training calls it
    assert raw is not None
    assert patch == (16, 16, 16) or not takes_patch(network, (16, 16, 16))


def test_a_patch_that_is_taken_stays() -> None:
    assert _accepted(built("unet"), (16, 32, 48), 16) == (16, 32, 48)
