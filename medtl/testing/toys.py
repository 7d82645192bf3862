"""Small things to try components on: a network, batches, images.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medtl.data.domain import parse_domain
from medtl.data.modality import Modality
from medtl.networks.blocks import Block, Network, tensors
from medtl.networks.builder import finish
from medtl.shift.contract import View
from medtl.transfer.weights import Weights

MODALITIES, REGIONS = ("t1", "t2"), ("outer", "inner")


SOURCE, TARGET = parse_domain("t1,t2,site:A"), parse_domain("t1,t2,site:B")


EDGE, BATCH = 16, 4


BLOCKS = (
    Block("stem", "stem", ("first.*",)),
    Block("encoder1", "encoder", ("second.*",)),
    Block("bottleneck", "bottleneck", ("third.*",)),
    Block("head", "head", ("last.*",)),
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws from ``seed`` within, and goes on as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _layer(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class _Toy(nn.Module):
    """Four blocks of one layer, with batch norm, whose statistics must hold still, too."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = _layer(in_channels, 6)
        self.second, self.third = _layer(6, 6), _layer(6, 6)
        self.last = nn.Conv2d(6, out_channels, 1)

    def forward(self, images_BCIJ: Tensor) -> Tensor:
        found: Tensor = self.last(self.third(self.second(self.first(images_BCIJ))))
        return found


def toy_network(seed: int = 0) -> Network:
    """A 2-D network for two modalities and two regions."""
    with seeded(seed):
        return finish(
            "toy",
            _Toy,
            BLOCKS,
            in_channels=len(MODALITIES),
            out_channels=len(REGIONS),
            spatial_dims=2,
            width=6,
        )


def copied(network: Network) -> dict[str, Tensor]:
    """Its tensors as they are now."""
    return {name: tensor.detach().clone() for name, tensor in tensors(network).items()}


def changed(network: Network, before: Mapping[str, Tensor]) -> set[str]:
    """Names of the tensors that are no longer what they were."""
    return {n for n, tensor in tensors(network).items() if not torch.equal(tensor, before[n])}


def toy_weights(seed: int = 1) -> Weights:
    """What a run on the source might have left."""
    metadata = {"modalities": list(MODALITIES), "regions": list(REGIONS)}
    values = copied(toy_network(seed))
    return Weights(Path("source.safetensors"), values, metadata, "medtl")


def toy_batches(done: int = 0, *, unlabelled: bool = False) -> Iterator[Mapping[str, Tensor]]:
    """The batches after ``done`` steps: regions are where the first modality is bright."""
    for step in count(done):
        draw = torch.Generator().manual_seed(step)
        image = torch.randn(BATCH, len(MODALITIES), EDGE, EDGE, generator=draw)
        target = torch.stack([image[:, 0] > 0, image[:, 0] > 1], dim=1).float()
        yield {"image": image, "target": target} | (
            {"unlabelled": 2 * image.flip(0) + 1} if unlabelled else {}
        )


def ball(edge: int, radius: float, centre: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Where a ball is in a cube; both in shares of its half edge."""
    axis = np.linspace(-1, 1, edge)
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    inside: NDArray[np.bool_] = np.linalg.norm(places - np.array(centre), axis=-1) < radius
    return inside


def toy_view(seed: int = 0, *, picture: bool = False, joint: bool = False) -> View:
    """An image of a ball with two nested regions; of one modality, or of two."""
    modalities = tuple(map(Modality, MODALITIES if joint else MODALITIES[:1]))
    cut = (slice(None), slice(None), slice(14, 15)) if picture else (slice(None),) * 3
    foreground_IJK = ball(24, 0.9, (0, 0, 0))[cut]
    target_LIJK = np.stack(
        [ball(24, 0.5, (0.2, 0, 0.2))[cut], ball(24, 0.25, (0.2, 0.1, 0.2))[cut]]
    )
    random = np.random.default_rng(seed)
    channels = [
        np.where(foreground_IJK, random.gamma(4, 50 * (n + 1), foreground_IJK.shape), 0)
        + 50 * target_LIJK[0]
        for n in range(len(modalities))
    ]
    covered = np.ones_like(foreground_IJK) if picture else foreground_IJK
    return View(
        f"case-{seed}",
        modalities,
        np.stack(channels).astype(np.float32),
        np.stack([covered] * len(modalities)),
        (1.0, 1.0, 1.0),
        "RAS",
        picture,
        target_LIJK,
        REGIONS[seed % 2],
    )
