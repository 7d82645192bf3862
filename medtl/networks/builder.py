"""From a torch module to a Network: find its first layers, heads and blocks.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.blocks import (
    Block,
    Network,
    NetworkBuilder,
    Role,
    least_edge,
    names_of,
    partition,
    per_axis,
    tensor_ids,
)
from medtl.networks.options import check_options, options_of
from medtl.networks.trace import built_on_meta, dry_run, mode, watch

#: in_channels, out_channels -> a module with random weights
MakeModule = Callable[[int, int], nn.Module]


#: how to make the module, and its blocks (None: derived)
Architecture = tuple[MakeModule, Sequence[Block] | None]


#: Of networks that were built before, by :func:`finish`'s ``known_as``: input and head tensors.
_FOUND: dict[Hashable, tuple[tuple[str, ...], tuple[str, ...]]] = {}

#: Patches that such networks have taken.
_TAKEN: set[tuple[Hashable, tuple[int, ...]]] = set()

#: Builder -> torchvision's file of weights for its network; empty if there is none.
IMAGENET_FILES: dict[Callable[..., Network], str] = {}


def network_builder(
    name: str,
    *,
    width: int,
    dimensions: Sequence[int] = (2, 3),
    imagenet: str = "",
    patch_multiple: int | Callable[[int, Mapping[str, Any]], tuple[int, ...]] = 1,
    **traits: Any,
) -> Callable[[Callable[..., Architecture]], NetworkBuilder]:
    """Turn ``plan(spatial_dims, width, *, option=default)`` into a NetworkBuilder.

    ``width``: the published one. ``imagenet``: torchvision's file of weights. ``traits``:
    ``patch_multiple`` and ``dense``, for :func:`finish`; a function makes the former from the
    number of axes and the options.
    """
    published, usual = width, 3 if 3 in dimensions else dimensions[0]

    def decorate(plan: Callable[..., Architecture]) -> NetworkBuilder:
        known = options_of(plan)

        def build(
            *,
            in_channels: int,
            out_channels: int,
            spatial_dims: int = usual,
            width: int | None = None,
            patch_size: tuple[int, ...] | None = None,
            **options: Any,
        ) -> Network:
            check_options(name, options, known)
            check_dimensions(name, spatial_dims, dimensions)
            chosen, settled = published if width is None else width, {**known, **options}
            return finish(
                name,
                *plan(spatial_dims, chosen, **settled),
                in_channels=in_channels,
                out_channels=out_channels,
                spatial_dims=spatial_dims,
                width=chosen,
                dimensions=dimensions,
                patch_multiple=_multiple(patch_multiple, spatial_dims, settled),
                patch_size=patch_size,
                options=settled,
                known_as=(build, in_channels, out_channels, spatial_dims, chosen, repr(settled)),
                **traits,
            )

        build.__name__, build.__doc__ = plan.__name__, plan.__doc__
        IMAGENET_FILES[build] = imagenet
        return build

    return decorate


def _multiple(
    stated: int | Callable[[int, Mapping[str, Any]], tuple[int, ...]],
    spatial_dims: int,
    options: Mapping[str, Any],
) -> int | tuple[int, ...]:
    """One number where it is one for all axes."""
    if isinstance(stated, int):
        return stated
    multiples = stated(spatial_dims, options)
    return multiples[0] if len(set(multiples)) == 1 else multiples


def finish(
    name: str,
    make: MakeModule,
    blocks: Sequence[Block] | None,
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int,
    width: int,
    dimensions: Sequence[int] = (2, 3),
    patch_multiple: int | tuple[int, ...] = 1,
    patch_size: Sequence[int] | None = None,
    fixed_patch: bool = False,
    dense: bool = True,
    options: Mapping[str, Any] | None = None,
    known_as: Hashable = None,
) -> Network:
    """Build the module and find the tensors whose shapes follow the channels and the outputs.

    They are found by building it again with other numbers, which also finds shortcuts around the
    first convolution and heads for deep supervision. ``make`` raises ConfigError or ValueError for
    numbers that it cannot take. ``blocks`` None: they are derived (:func:`derive_blocks`). A
    ``patch_size`` is tried on shapes alone; ``fixed_patch``: the module takes no other.
    ``options``: those of ``make``, kept in checkpoints. ``known_as``: networks for which it is
    equal are built alike, so what was found of one is not looked for again. Raises ConfigError if
    the numbers, the blocks or the patch do not fit the module.
    """
    check_dimensions(name, spatial_dims, dimensions)
    _check_counts(name, {"input channels": in_channels, "outputs": out_channels, "width": width})
    module = _make(name, make, in_channels, out_channels)
    found = _FOUND.get(known_as) or _following(name, module, make, in_channels, out_channels)
    patch = tuple(patch_size or ())
    edges = patch or tuple(least_edge(32, each) for each in per_axis(patch_multiple, spatial_dims))
    shape = (1, in_channels, *edges)
    network = Network(
        name=name,
        module=module,
        blocks=tuple(blocks) if blocks is not None else derive_blocks(module, torch.zeros(shape)),
        in_channels=in_channels,
        out_channels=out_channels,
        spatial_dims=spatial_dims,
        width=width,
        input_tensors=found[0],
        head_tensors=found[1],
        patch_multiple=patch_multiple,
        declared=blocks is not None,
        patch_size=patch if fixed_patch else (),
        dense=dense,
        options=dict(options or {}),
    )
    partition(network)
    if patch and (known_as, patch) not in _TAKEN:
        _try_patch(network, patch)
    if known_as is not None:
        _FOUND[known_as] = found
        _TAKEN.add((known_as, patch))
    return network


def _following(
    name: str, module: nn.Module, make: MakeModule, in_channels: int, out_channels: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tensors whose shapes follow the input channels, and the outputs."""
    with torch.random.fork_rng(devices=[]):
        inputs = ((other, out_channels) for other in _others(in_channels))
        wider = _comparable(name, module, make, inputs)
        outputs = ((in_channels, other) for other in _others(out_channels))
        more_outputs = _comparable(name, module, make, outputs)
    return _differing(module, wider, slice(1, 2)), _differing(module, more_outputs, slice(None))


def _check_counts(name: str, counts: Mapping[str, int]) -> None:
    for what, number in counts.items():
        if number < 1:
            raise ConfigError(f"{name}: {what} must be 1 or more, not {number}")


def check_dimensions(name: str, spatial_dims: int, dimensions: Sequence[int]) -> None:
    """Raise ConfigError if the network is not offered in ``spatial_dims`` dimensions."""
    if spatial_dims not in dimensions:
        offered = " and ".join(f"{n}-D" for n in dimensions)
        raise ConfigError(f"{name} is a {offered} network; it cannot be built in {spatial_dims}-D")


def _make(name: str, make: MakeModule, in_channels: int, out_channels: int) -> nn.Module:
    try:
        return make(in_channels, out_channels)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"{name} cannot be built with {in_channels} channels and {out_channels} outputs: "
            f"{_first_line(error)}"
        ) from error


def _others(number: int) -> list[int]:
    """Numbers to compare with; the later ones for modules that do not take every number (VNet)."""
    candidates = (number + 1, number + 2, 2 * number, max(1, number // 2), 1)
    return [other for other in candidates if other != number]


def _comparable(
    name: str, module: nn.Module, make: MakeModule, numbers: Iterable[tuple[int, int]]
) -> nn.Module:
    """The first module of these ``numbers`` that can be built and has all of ``module``'s tensors.

    Some shortcuts exist only if two numbers of channels differ.
    """
    needed = set(module.state_dict())
    for in_channels, out_channels in numbers:
        try:
            other = built_on_meta(partial(make, in_channels, out_channels))
        except (ConfigError, ValueError):
            continue
        if needed <= set(other.state_dict()):
            return other
    raise ConfigError(f"{name}: no other number of channels can be built to compare with")


def _differing(module: nn.Module, other: nn.Module, axes: slice) -> tuple[str, ...]:
    """First names of the tensors whose shape differs on these axes."""
    state, others = module.state_dict(), other.state_dict()
    return tuple(n for n in names_of(module) if state[n].shape[axes] != others[n].shape[axes])


def _try_patch(network: Network, patch: tuple[int, ...]) -> None:
    shown = "x".join(map(str, patch))
    if len(patch) != network.spatial_dims:
        raise ConfigError(f"{network.name} is {network.spatial_dims}-D; the patch is {shown}")
    pairs = list(zip(patch, network.multiples, strict=True))
    if any(edge % multiple or edge < 1 for edge, multiple in pairs):
        multiples = sorted({multiple for _, multiple in pairs})
        of = multiples[0] if len(multiples) == 1 else ", ".join(map(str, network.multiples))
        raise ConfigError(
            f"{network.name} takes patches with edges that are multiples of {of}, not {shown}"
        )
    if problem := _refusal(network, patch):
        raise ConfigError(
            f"{network.name} cannot take patches of {shown}; set another patch_size ({problem})"
        )


def takes_patch(network: Network, patch: Sequence[int]) -> bool:
    """Whether the network trains on such patches; one that is built for its patch does."""
    return bool(network.patch_size) or not _refusal(network, patch)


def _refusal(network: Network, patch: Sequence[int]) -> str:
    """Why the network cannot train on such patches, found by shapes alone; empty if it can."""
    # Batch norm refuses a single value per channel, which one image may have.
    batch = 1 if network.dense else 2
    try:
        dry_run(network.module, (batch, network.in_channels, *patch), training=True)
    except (ValueError, RuntimeError) as error:
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def derive_blocks(module: nn.Module, example_BCIJK: Tensor) -> tuple[Block, ...]:
    """Blocks for a module that declares none: its children, grouped by first execution.

    A single child is replaced by its children. The first block is the stem, with the tensors that
    the module holds itself. The last block that runs is the head, as are blocks that do not run.
    The network is not ``declared``.
    """
    parts = dict(_main_parts(module))
    if not parts:
        return (Block("network", "stem", ("*",)),)
    with watch(parts) as order, mode(module, training=False), torch.no_grad():
        module(example_BCIJK)
    return tuple(_blocks_in_order(module, parts, order))


def _main_parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children; a single child and lists, which never run, are replaced by theirs."""
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
