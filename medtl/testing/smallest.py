"""A network at the least width and patch that its builder takes, to be tried.

Axes: B batch, C channel, L label or region, I J K voxel axes.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from medtl.errors import ConfigError, MedtlError
from medtl.networks.blocks import Network, all_logits, tensors
from medtl.networks.trace import built_on_meta
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.toys import seeded

IN, OUT = 2, 3


WIDTHS = (2, 4, 8, 12, 16, None)


EDGES = (16, 32, 64, 96, 128)


#: Numbers of channels or outputs that are built to compare with; not every module takes every one.
OTHERS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Small:
    """A network at its least size, and how another is built."""

    builder: Callable[..., Any]
    network: Network
    edge: int
    width: int | None

    def again(self, seed: int = 0, **changes: int) -> Network:
        """Another one, of other random weights or numbers."""
        size = {"width": self.width, "patch_size": (self.edge,) * self.network.spatial_dims}
        settings = {"in_channels": IN, "out_channels": OUT, **size, **changes}
        with seeded(seed):
            return _built(self.builder, spatial_dims=self.network.spatial_dims, **settings)

    def images(self, seed: int = 1) -> Tensor:
        """images_BCIJK, two of them."""
        shape = (2, self.network.in_channels, *(self.edge,) * self.network.spatial_dims)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@lru_cache(maxsize=4)
def smallest(builder: Callable[..., Any], dims: int) -> Small | str:
    """The network at the least width and patch edge that it takes, or why it takes none."""
    reason = ""
    for width in WIDTHS:
        for edge in EDGES:
            try:
                with seeded(0):
                    network = _built(
                        builder,
                        in_channels=IN,
                        out_channels=OUT,
                        spatial_dims=dims,
                        width=width,
                        patch_size=(edge,) * dims,
                    )
            except ConfigError as error:
                reason = str(error)
            else:
                return Small(builder, network, edge, width)
    return reason


def _built(builder: Callable[..., Any], **settings: Any) -> Network:
    try:
        network: Network = builder(**settings)
    except MedtlError:
        raise
    except Exception as error:
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        problem = f"building it with {given} raised {type(error).__name__}: {error}"
        raise CheckFailed(f"{problem}; raise ConfigError for numbers it cannot take") from error
    kind = type(network).__name__
    require(isinstance(network, Network), f"it returns {kind}, not a medtl.networks.blocks.Network")
    return network


def every(tried: Tried) -> list[Small]:
    """It in every number of dimensions that it takes, the fewest first."""
    found = [smallest(tried.target(), dims) for dims in (2, 3)]
    small = [one for one in found if isinstance(one, Small)]
    require(small, f"it can be built neither in 2-D ({found[0]}) nor in 3-D ({found[1]})")
    return small


def fresh(tried: Tried) -> tuple[Small, Network]:
    """Its smallest, and a copy to be changed."""
    small = every(tried)[0]
    return small, deepcopy(small.network)


def logits_of(network: Network, raw: Any) -> tuple[Tensor, ...]:
    """logits_BLIJK at full resolution, then those of deep supervision; or logits_BL."""
    if network.dense:
        return all_logits(raw, network.spatial_dims)
    require(isinstance(raw, Tensor), f"it returns {type(raw).__name__}, not logits_BL")
    return (raw,)


def predicted(network: Network, images_BCIJK: Tensor) -> Tensor:
    """The main outputs in evaluation mode."""
    network.module.eval()
    with torch.no_grad():
        return logits_of(network, network.module(images_BCIJK))[0]


def another(small: Small, which: str, number: int) -> dict[str, Tensor]:
    """The tensors of the network with another number of channels or outputs."""
    needed, reason = set(tensors(small.network)), ""
    for other in OTHERS:
        if other == number:
            continue
        try:
            found = tensors(built_on_meta(partial(small.again, **{which: other})))
        except ConfigError as error:
            reason = str(error)
            continue
        if needed <= set(found):
            return found
        reason = f"with {which}={other} it has other tensors"
    raise CheckFailed(f"it takes {which}={number} only ({reason}); let it take others")
