"""Grad-CAM (Selvaraju et al. 2017): the places of a feature map that increase an output.

Axes: B batch, C channel, L class or region, I J K voxel axes (2-D networks have no K).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import pooling

from medtl.errors import ConfigError, UnknownNameError
from medtl.networks.blocks import Network, all_logits, partition, tensors
from medtl.networks.hooks import tensors_in
from medtl.networks.trace import dry_run, layers, own_tensors

#: Layers whose input is the better map: pooling is coarser, the others change nothing.
_PASSED_OVER = (
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    nn.modules.dropout._DropoutNd,
    nn.Identity,
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a module in a forward pass: a shared activation runs several times."""

    name: str
    call: int
    block: str
    shape: tuple[int, ...]  #: of the map: channels, then voxels per axis


def feature_layer(network: Network, patch: Sequence[int], block: str | None = None) -> Layer:
    """The last layer of a block whose output is a map: after its activation, before pooling.

    ``block`` None: the one before the head.

    Raises:
        UnknownNameError: no such block.
        ConfigError: the block gives no map of more than one place.
    """
    known = [part.name for part in network.blocks]
    if block is not None and block not in known:
        raise UnknownNameError(f"block of {network.name}", block, known)
    heads = {part.name for part in network.blocks if part.role == "head"}
    state, owners = tensors(network), partition(network)
    block_of = {id(state[name]): owner for name, owner in owners.items()}
    current, chosen = known[0], None
    for call in layer_calls(network, patch):
        # A layer without weights belongs to the block that ran before it.
        current = block_of.get(id(next(own_tensors(call.module), None)), current)
        if block is None and current in heads:
            break
        maps = [t for t in tensors_in(call.output) if t.ndim == network.spatial_dims + 2]
        size = tuple(maps[-1].shape[1:]) if maps else ()
        is_map = prod(size[1:]) > 1 and not isinstance(call.module, _PASSED_OVER)
        if is_map and (block is None or current == block):
            chosen = Layer(call.name, call.number, current, size)
    if chosen is None:
        where = f"block {block} of {network.name}" if block else f"{network.name} before its head"
        images = "x".join(map(str, patch))
        others = ", ".join(name for name in known if name not in {block, *heads})
        raise ConfigError(
            f"{where} gives no map of more than one place for images of {images}; name another "
            f"--layer of {others}"
        )
    return chosen


class Call(NamedTuple):
    """One call of a layer in a forward pass."""

    name: str
    number: int  #: of the layer's earlier calls
    module: nn.Module
    inputs: Any
    output: Any


def layer_calls(network: Network, patch: Sequence[int]) -> list[Call]:
    """The calls of all layers in order, for images of the size ``patch``, on shapes alone."""
    calls: list[Call] = []
    counts = Counter[str]()

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append(Call(name, counts[name], module, inputs, output))
        counts[name] += 1

    parts = layers(network.module).items()
    handles = [part.register_forward_hook(partial(note, name)) for name, part in parts]
    try:
        dry_run(network.module, (2, network.in_channels, *patch))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def grad_cam(
    network: Network,
    batch_BCIJK: Tensor,
    layer: Layer,
    score: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Weight the features by each channel's mean gradient, sum them, and clip at 0 (eqs. 1 and 2).

    Runs in evaluation mode, so that no image depends on its batch.

    Args:
        score: logits -> the explained number of each image (B).

    Returns:
        cam_BIJK on the grid of ``layer``, 0 or more, and the network's logits.
    """
    module = network.module.eval()
    with torch.enable_grad(), _captured(module, layer) as kept:
        raw = module(batch_BCIJK)
        logits = all_logits(raw, network.spatial_dims)[0] if network.dense else raw
        features = kept[0]
        (gradients,) = torch.autograd.grad(score(logits).sum(), features)
    over = tuple(range(2, features.ndim))
    weights = gradients.mean(over, keepdim=True)
    return (weights * features.detach()).sum(1).clamp_min(0), logits.detach()


@contextmanager
def _captured(module: nn.Module, layer: Layer) -> Iterator[list[Tensor]]:
    """Yield a list that the forward pass fills with the layer's output, kept in the graph."""
    kept: list[Tensor] = []
    calls = count()

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if next(calls) != layer.call:
            return None
        kept.append(tensors_in(output)[-1].detach().requires_grad_())
        copy = kept[0].clone()  # the next layer may work in place
        return copy if isinstance(output, Tensor) else type(output)([*output[:-1], copy])

    handle = module.get_submodule(layer.name).register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


def of_class(classes_B: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """The logit of each image's class."""
    return lambda logits_BL: logits_BL[torch.arange(len(classes_B)), list(classes_B)]


def of_region(region: int) -> Callable[[Tensor], Tensor]:
    """The sum of a region's positive logits (Vinogradova et al. 2020)."""

    def score(logits_BLIJK: Tensor) -> Tensor:
        logits_BX = logits_BLIJK[:, region].flatten(1)
        return (logits_BX * (logits_BX.detach() > 0)).sum(1)

    return score
