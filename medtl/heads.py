"""Heads follow the names of their regions, as first layers follow those of the modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medtl.networks import Network, tensors


def select_regions(
    network: Network, name: str, source: Tensor, known: Sequence[str], wanted: Sequence[str]
) -> Tensor:
    """The head tensor ``source`` of the regions ``known``, cut and ordered to those ``wanted``."""
    order = torch.tensor([known.index(region) for region in wanted])
    for axis in _region_axes(network, name, source, len(known)):
        source = source.index_select(axis, order)
    return source


def _region_axes(network: Network, name: str, source: Tensor, count: int) -> list[int]:
    """The axes of a head tensor that count regions.

    A layer's outputs always; its inputs too where it comes behind another layer of the head
    (the residual unit that ends MONAI's UNet).
    """
    layer = network.module.get_submodule(name.rpartition(".")[0])
    out_axis = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) and source.ndim > 1 else 0
    axes = [out_axis] if source.ndim and source.shape[out_axis] == count else []
    state = tensors(network)
    earlier = network.head_tensors[: network.head_tensors.index(name)]
    behind = any(state[other].ndim > 1 for other in earlier)
    if source.ndim > 1 and behind and source.shape[1 - out_axis] == count:
        axes.append(1 - out_axis)
    return axes
