"""``--init imagenet``: torchvision's weights for a network, from a file or torch's hub cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from medtl.data.modality import COLOURS
from medtl.errors import ConfigError, WeightsError
from medtl.networks.builder import IMAGENET_FILES
from medtl.plugins.catalog import Catalog
from medtl.transfer.mismatch import first_channels
from medtl.transfer.weights import Weights, read_weights, resolve_weights

#: The value of ``--init``.
IMAGENET = "imagenet"


URL = "https://download.pytorch.org/models/"


def read_imagenet(catalog: Catalog, network: str, file: Path | None, key: str = "") -> Weights:
    """ImageNet weights for a network of the catalog, with channels red, green and blue.

    ``key``: of the weights in the file, where it holds several.

    Raises:
        ConfigError: torchvision has no weights for the network, and no file is given.
        WeightsError: the file is missing or cannot be read.
    """
    path = resolve_weights(str(file)) if file else find_imagenet(catalog, network)
    weights = read_weights(path, key)
    if weights.modalities or first_channels(weights.tensors) not in (0, len(COLOURS)):
        return weights
    return replace(weights, metadata={**weights.metadata, "modalities": list(COLOURS)})


def find_imagenet(catalog: Catalog, network: str) -> Path:
    """The network's file in torch's hub cache; errors as :func:`read_imagenet`."""
    published = IMAGENET_FILES.get(catalog.networks[network].load())
    if not published:
        raise ConfigError(
            f"--init imagenet: torchvision has no weights for network {network}; choose one that "
            "is named as torchvision's (medtl list networks), or name a file with --weights"
        )
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    # Any version: torchvision appends eight digits of the content's hash to the name.
    versions = sorted(folder.glob(f"{published.partition('-')[0]}-????????.pth"))
    if not versions:
        raise WeightsError(
            f"--init imagenet: {folder} holds no {published}; fetch {URL}{published} into it, or "
            "name your copy with --weights FILE"
        )
    return folder / published if folder / published in versions else versions[-1]
