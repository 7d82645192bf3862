"""The response of first layers to images, before and after their channels are adapted.

Axes: B batch, C image channel, I J K voxel axes, O outputs of a first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medtl.networks.blocks import Network, all_logits, tensors
from medtl.networks.trace import mode
from medtl.runtime.device import in_double
from medtl.transfer.receipt import Receipt

_POOLS = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def norm_follows(network: Network, tensor_name: str) -> bool:
    """Whether the network's output stays the same when this weight is doubled.

    This is tested on random images, which detects what the order of layers does not show: a
    shortcut around the norm, or batch norm with stored statistics. If it cannot be tested (a new
    head of zeros), the result is False, as scaling in front of a norm does no harm. The network is
    bit-identical afterwards.
    """
    weight = tensors(network)[tensor_name]
    patch = network.probe_edges(16 if network.dense else 32)
    draw = torch.Generator().manual_seed(0)
    images = 1 if network.dense else 2  # a single output has no spread
    batch_BCIJK = torch.randn((images, network.in_channels, *patch), generator=draw).to(weight)
    kept = weight.detach().clone()
    with mode(network.module, training=False), torch.no_grad():
        try:
            before = all_logits(network.module(batch_BCIJK), network.spatial_dims)[0]
            weight.mul_(2)
            after = all_logits(network.module(batch_BCIJK), network.spatial_dims)[0]
        finally:
            weight.copy_(kept)
    spread = float(before.std())
    return spread > 0 and float((after - before).abs().max()) < 0.01 * spread


def measure_response(network: Network, batch_BCIJK: Tensor) -> dict[str, float]:
    """Root mean square of each first layer's response over the foreground, without bias and ReLU.

    Foreground is where any channel is not 0, as after z-scoring in the brain. Keys are the names in
    ``network.input_tensors``.
    """
    pool = _POOLS[network.spatial_dims]
    responses = {}
    for name in network.input_tensors:
        layer = network.module.get_submodule(name.rpartition(".")[0])
        with torch.no_grad():
            voxels = power = 0.0
            for image_1CIJK in torch.split(batch_BCIJK, 1):  # one by one, to save memory
                response_1OIJK = _convolved(layer, image_1CIJK)
                if isinstance(bias := getattr(layer, "bias", None), Tensor):
                    response_1OIJK = response_1OIJK - bias.view(-1, *[1] * network.spatial_dims)
                inside_11IJK = (image_1CIJK != 0).any(dim=1, keepdim=True).to(response_1OIJK)
                inside_11IJK = pool(inside_11IJK, response_1OIJK.shape[2:])
                voxels += float(inside_11IJK.sum()) * response_1OIJK.shape[1]
                power += float(in_double(response_1OIJK.square() * inside_11IJK).sum())
        responses[name] = (power / voxels) ** 0.5 if voxels else 0.0
    return responses


def _convolved(layer: nn.Module, image_1CIJK: Tensor) -> Tensor:
    """The layer's response, without the activation that a convolution may include
    (medtl.networks.layers)."""
    if isinstance(layer, nn.Conv2d):
        return nn.Conv2d.forward(layer, image_1CIJK)
    if isinstance(layer, nn.Conv3d):
        return nn.Conv3d.forward(layer, image_1CIJK)
    response_1OIJK: Tensor = layer(image_1CIJK)
    return response_1OIJK


def calibrate_response(
    network: Network, receipt: Receipt, source_rms: Mapping[str, float], batch_BCIJK: Tensor
) -> Receipt:
    """Scale adapted first layers to respond to the target as strongly as to the source.

    Layers that a normalisation follows, and layers loaded unchanged, are not scaled.

    Args:
        source_rms: the source's :func:`measure_response` on its own training images, stored in its
            checkpoint as ``response_rms``.
        batch_BCIJK: training images of the target.

    Returns:
        the receipt with the factors.
    """
    adapted = {row.name for row in receipt.tensors if row.status == "adapted"}
    measured = measure_response(network, batch_BCIJK)
    factors = {
        name: source_rms[name] / measured[name]
        for name in network.input_tensors
        if name in adapted and source_rms.get(name, 0) > 0 and measured[name] > 0
    }
    factors = {name: f for name, f in factors.items() if not norm_follows(network, name)}
    state = tensors(network)
    with torch.no_grad():
        for name, factor in factors.items():
            state[name].mul_(factor)
    rows = []
    for row in receipt.tensors:
        if row.name in factors:
            note = f"{row.note}; x {factors[row.name]:.4g} to answer as strongly as in the source"
            row = replace(row, note=note, factors={**row.factors, "response": factors[row.name]})
        rows.append(row)
    return replace(receipt, tensors=tuple(rows))
