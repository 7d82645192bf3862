"""The block protocol: a network is an ordered partition of all its tensors into named blocks.

Axes: B batch, C channel, L label or region, I J K voxel axes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from medtl.errors import ConfigError, UnknownNameError, shown
from medtl.networks.trace import execution_order, layers, own_tensors

Role = Literal["stem", "encoder", "bottleneck", "decoder", "head"]


@dataclass(frozen=True, slots=True)
class Block:
    """A named part of a network: the tensors whose names match ``patterns`` (shell-style)."""

    name: str
    role: Role
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A torch module with its blocks, in execution order.

    ``input_tensors`` names the weights whose axis 1 counts the image's channels, ``head_tensors``
    those with an axis that counts the outputs. ``declared`` is False if the blocks were derived
    from the order of execution. ``patch_multiple``: every patch edge must be a multiple of it; one
    number, or one per axis. ``patch_size``: the only patch it takes; empty if it takes any
    multiple. ``dense``: the outputs are maps as large as the image, else logits_BL of the whole
    image. ``options``: the builder's other arguments, as plain data.
    """

    name: str
    module: nn.Module
    blocks: tuple[Block, ...]
    in_channels: int
    out_channels: int
    spatial_dims: int
    width: int
    input_tensors: tuple[str, ...]
    head_tensors: tuple[str, ...]
    patch_multiple: int | tuple[int, ...] = 1
    declared: bool = True
    patch_size: tuple[int, ...] = ()
    dense: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def multiples(self) -> tuple[int, ...]:
        """``patch_multiple`` per axis."""
        return per_axis(self.patch_multiple, self.spatial_dims)

    def probe_edges(self, least: int = 32) -> tuple[int, ...]:
        """Edges of an image that the network takes, small but not too small for its norms."""
        return self.patch_size or tuple(least_edge(least, each) for each in self.multiples)


def per_axis(number: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number for every axis, or one per axis, as the latter."""
    return (number,) * axes if isinstance(number, int) else tuple(number)


def rounded_up(size: int, multiple: int) -> int:
    """The smallest multiple that is not below ``size``."""
    return -(-size // multiple) * multiple


def least_edge(least: int, multiple: int) -> int:
    """The smallest edge of at least ``least`` and of two voxels of the coarsest level."""
    return max(2 * multiple, rounded_up(least, multiple))


class NetworkBuilder(Protocol):
    """The type of a network component. ``width`` None means the published width.

    It may take ``options`` of its own by keyword (:mod:`medtl.networks.options`).
    """

    def __call__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        width: int | None = None,
        patch_size: tuple[int, ...] | None = None,
        **options: Any,
    ) -> Network: ...


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One line of a network's table: the numbers of parameters and buffer elements of a block."""

    block: str
    role: Role
    parameters: int
    buffers: int


def names_of(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """First name -> all names of each tensor in the state dict; tied tensors are listed once."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            names.setdefault(id(tensor), []).append(name)
    return {aliases[0]: tuple(aliases) for aliases in names.values()}


def tensor_ids(module: nn.Module) -> set[int]:
    """The ids of all tensors in a module's state dict."""
    state = module.state_dict(keep_vars=True)
    return {id(tensor) for tensor in state.values() if isinstance(tensor, Tensor)}


def tensors(network: Network) -> dict[str, Tensor]:
    """All parameters and saved buffers by first name; tied tensors are listed once."""
    state = network.module.state_dict(keep_vars=True)
    return {name: state[name] for name in names_of(network.module)}


def partition(network: Network) -> dict[str, str]:
    """Tensor name -> block name, in the order of :func:`tensors`.

    A tensor belongs to the block that one of its names matches.

    Raises:
        ConfigError: a tensor belongs to no block or to several, or a block holds no tensor.
    """
    owners: dict[str, str] = {}
    for name, aliases in names_of(network.module).items():
        blocks = match_block(network, aliases)
        if len(blocks) != 1:
            where = f"in blocks {' and '.join(blocks)}" if blocks else "in no block"
            raise ConfigError(
                f"network {network.name}: tensor {name} is {where}; correct the block patterns"
            )
        owners[name] = blocks[0]
    for block in network.blocks:
        if block.name not in owners.values():
            raise ConfigError(
                f"network {network.name}: block {block.name} holds no tensor; "
                f"correct its patterns {', '.join(block.patterns)}"
            )
    return owners


def match_block(network: Network, aliases: Collection[str]) -> list[str]:
    """Names of the blocks that match a tensor of these names; one, if the declaration is right."""
    return [
        block.name
        for block in network.blocks
        if any(fnmatchcase(name, pattern) for pattern in block.patterns for name in aliases)
    ]


def describe_blocks(network: Network) -> tuple[BlockRow, ...]:
    """The numbers of parameters and buffer elements of each block, in execution order."""
    owners, state = partition(network), tensors(network)

    def count(block: str, *, parameters: bool) -> int:
        held = (state[name] for name, owner in owners.items() if owner == block)
        return sum(t.numel() for t in held if isinstance(t, nn.Parameter) == parameters)

    return tuple(
        BlockRow(b.name, b.role, count(b.name, parameters=True), count(b.name, parameters=False))
        for b in network.blocks
    )


def execution_layers(network: Network, patch_size: Sequence[int] | None = None) -> list[str]:
    """Names of the layers in order of execution, with those without weights.

    They are found by running the module on shapes alone. Layers that inference does not use (heads
    for deep supervision) are left out. ``patch_size`` matters only to networks built for one.
    """
    patch = tuple(patch_size or network.probe_edges())
    return execution_order(network.module, (2, network.in_channels, *patch))


def check_block_names(network: Network, names: Collection[str]) -> None:
    """Raise UnknownNameError for a block that the network does not have."""
    known = [block.name for block in network.blocks]
    for name in names:
        if name not in known:
            raise UnknownNameError(f"block of {network.name}", name, known)


def select_blocks(network: Network, spec: str) -> tuple[str, ...]:
    """Names of the tensors that a freeze spec covers, in the order of :func:`tensors`.

    ``none``; ``all``; ``3``: the first three blocks; ``stem,encoder1``: these blocks;
    ``all-but:head``: every block but these; ``layers:25``: the first 25 layers that run
    (:func:`execution_layers`).

    Raises:
        ConfigError: unknown blocks, or more than there are.
    """
    spec = spec.strip().lower()
    names = [block.name for block in network.blocks]
    if spec.startswith("layers:"):
        return _first_layers(network, _number(spec.removeprefix("layers:"), spec))
    if spec.startswith("all-but:"):
        kept = _block_names(network, spec.removeprefix("all-but:"))
        chosen = [name for name in names if name not in kept]
    elif spec in ("none", "all"):
        chosen = names if spec == "all" else []
    elif re.fullmatch(r"-*[0-9]+", spec):
        count = _number(spec, spec)
        if count > len(names):
            raise ConfigError(
                f"--freeze {count}: {network.name} has {len(names)} blocks ({', '.join(names)})"
            )
        chosen = names[:count]
    else:
        chosen = _block_names(network, spec)
    return tuple(name for name, owner in partition(network).items() if owner in chosen)


def _number(text: str, spec: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"--freeze {shown(spec)}: needs a whole number, 0 or more")
    return int(text)


def _block_names(network: Network, text: str) -> list[str]:
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    check_block_names(network, chosen or [text])
    return chosen


def _first_layers(network: Network, count: int) -> tuple[str, ...]:
    order = execution_layers(network)
    if count > len(order):
        raise ConfigError(f"--freeze layers:{count}: {network.name} runs {len(order)} layers")
    parts = layers(network.module)
    held = {id(tensor) for name in order[:count] for tensor in own_tensors(parts[name])}
    return tuple(name for name, tensor in tensors(network).items() if id(tensor) in held)


def freeze(network: Network, frozen: Collection[str]) -> None:
    """Make the named tensors untrainable and all other parameters trainable.

    Replaces an earlier selection. Buffers are frozen only if :func:`train_mode` is called with the
    same names in place of ``module.train()``.
    """
    state = tensors(network)
    for name in frozen:
        if name not in state:
            raise UnknownNameError(f"tensor of {network.name}", name, state)
    for name, tensor in state.items():
        if isinstance(tensor, nn.Parameter):
            tensor.requires_grad_(name not in frozen)
            if name in frozen:
                tensor.grad = None


def train_mode(network: Network, frozen: Collection[str]) -> None:
    """``module.train()``, but modules that hold only frozen tensors stay in evaluation mode.

    So their norm statistics do not change and their dropout is off. Call it at the start of every
    epoch, as validation puts the module into evaluation mode.
    """
    held = {id(tensor) for name, tensor in tensors(network).items() if name in frozen}
    network.module.train()
    for part in network.module.modules():
        ids = tensor_ids(part)
        if ids and ids <= held:
            part.eval()


def all_logits(raw: Any, spatial_dims: int = 3) -> tuple[Tensor, ...]:
    """A network's output -> logits_BLIJK at full resolution, then those of deep supervision.

    The output may be a tensor, heads stacked on axis 1 (DynUNet, BHLIJK) or a sequence of tensors;
    other members of a sequence (an auxiliary loss) are ignored.

    Raises:
        ConfigError: the output is anything else.
    """
    if isinstance(raw, Tensor):
        return raw.unbind(1) if raw.ndim == spatial_dims + 3 else (raw,)
    members = raw if isinstance(raw, list | tuple) else ()
    logits = [t for t in members if isinstance(t, Tensor) and t.ndim == spatial_dims + 2]
    if not logits:
        raise ConfigError(f"the network returned no logits but {type(raw).__name__}")
    return tuple(sorted(logits, key=lambda t: -t[0, 0].numel()))
