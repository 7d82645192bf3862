"""What is known of a network that was built before."""

from __future__ import annotations

import pytest

from medtl.errors import ConfigError
from medtl.networks.blocks import Network
from medtl.plugins.catalog import load_catalog


def build(**options: object) -> Network:
    settings = {"in_channels": 2, "out_channels": 3, "width": 8, **options}
    network: Network = load_catalog().networks["plain-unet"].load()(**settings)
    return network


def test_equal_networks_have_equal_tensors_and_others_their_own() -> None:
    first, again = build(strides=[1, 2, 2]), build(strides=[1, 2, 2])
    assert again.input_tensors == first.input_tensors == ("encoder.stages.0.0.convs.0.conv.weight",)
    assert again.head_tensors == first.head_tensors and len(first.head_tensors) == 4
    assert len(build(strides=[1, 2, 2, 2]).head_tensors) == 6
    assert again.module is not first.module


def test_a_patch_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match="multiples of 4"):
            build(strides=[1, 2, 2], patch_size=(10, 8, 8))
