"""Blocks for a network that declares none, from the order in which its parts run.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from medtl.networks import Block, Role, names_of, tensor_ids
from medtl.tracing import mode, watch


def derive_blocks(module: nn.Module, example_BCIJK: Tensor) -> tuple[Block, ...]:
    """Blocks for a module that declares none: its children, grouped by first execution.

    A lone child is looked into. The first block is the stem and takes tensors that the module
    holds itself; the last that runs is the head, as is anything that does not run. The network
    made of them is not ``declared``.
    """
    parts = dict(_main_parts(module))
    if not parts:
        return (Block("network", "stem", ("*",)),)
    with watch(parts) as order, mode(module, training=False), torch.no_grad():
        module(example_BCIJK)
    return tuple(_blocks_in_order(module, parts, order))


def _main_parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children; a lone one is looked into, and so are lists, which never run themselves."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        listed = isinstance(child, nn.ModuleList | nn.ModuleDict)
        inner = _main_parts(child, f"{prefix}{name}.") if listed else []
        parts += inner or [(f"{prefix}{name}", child)]
    if len(parts) == 1:
        name, child = parts[0]
        return _main_parts(child, f"{name}.") or parts
    return parts


def _blocks_in_order(
    module: nn.Module, parts: dict[str, nn.Module], order: list[str]
) -> Iterator[Block]:
    state = module.state_dict(keep_vars=True)
    unclaimed = list(names_of(module))
    below = {identity for part in parts.values() for identity in tensor_ids(part)}
    own = [name for name in unclaimed if id(state[name]) not in below]
    held: list[tuple[str, list[str]]] = []
    for part in [*order, *(name for name in parts if name not in order)]:
        ids = tensor_ids(parts[part])
        claimed = [name for name in unclaimed if id(state[name]) in ids]
        unclaimed = [name for name in unclaimed if name not in claimed]
        if claimed:
            held.append((part, claimed))
    running = [part for part, _ in held if part in order]
    for part, claimed in held:
        first = part == running[0]
        role: Role = "stem" if first else "encoder" if part in running[:-1] else "head"
        yield Block(part, role, tuple([*own, *claimed] if first else claimed))
