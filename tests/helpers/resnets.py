"""Networks as torchvision saves them."""

from __future__ import annotations

from pathlib import Path

import torch

from medtl.plugins.catalog import load_catalog


def write_resnet(path: Path) -> Path:
    """A narrow ResNet-18 of 1000 classes as torchvision saves it."""
    torch.manual_seed(9)
    network = (
        load_catalog()
        .networks["resnet18"]
        .load()(in_channels=3, out_channels=1000, spatial_dims=2, width=4)
    )
    torch.save(network.module.state_dict(), path)
    return path
