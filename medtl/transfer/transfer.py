"""Load weights into a network, tensor by tensor, with a receipt.

Axes: O outputs, I image channels of the source, C those of the network, x the kernel's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from medtl.data.modality import COLOURS
from medtl.errors import ConfigError, WeightsError
from medtl.networks.blocks import Network, check_block_names, names_of, partition, tensors
from medtl.runtime.files import portable
from medtl.transfer.channel_adaptation import (
    Adapted,
    adapt_head,
    adapt_input,
    identical_pairs,
    inflated,
    plan_channels,
)
from medtl.transfer.mismatch import NOT_IN_FILE, misfit, torchvision_network
from medtl.transfer.name_match import match_names
from medtl.transfer.nnunet_names import is_cancelled_bias
from medtl.transfer.receipt import Receipt, ReceiptRow, Status, identical_notes
from medtl.transfer.response import norm_follows
from medtl.transfer.weights import Weights
from medtl.transfer.wrapped import PLAIN_KEY, several

#: The note on a file of torchvision's networks that names no channels.
_COLOURS_TAKEN = (
    "the file does not name its channels: taken to be red, green, blue, as torchvision's are; "
    "state --init-modalities if they are others"
)

#: The note on a tensor of a block that was to stay random.
LEFT_RANDOM = "left random as asked"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of modalities, or of regions, in the file and in the network."""

    source: tuple[str, ...]  #: empty: unknown
    target: tuple[str, ...]
    mapping: Mapping[str, str]  #: target name -> source name, as the user stated


def transfer(
    network: Network,
    weights: Weights,
    *,
    modalities: tuple[str, ...],
    regions: tuple[str, ...],
    mapping: Mapping[str, str] | None = None,
    reinit: tuple[str, ...] = (),
    allow_partial: bool = False,
    source_modalities: tuple[str, ...] | None = None,
) -> Receipt:
    """Load ``weights`` into ``network`` in place; the receipt lists what became of every tensor.

    Tensors of the same name and shape are loaded. First layers are adapted from the source's
    modalities to ``modalities``, heads to ``regions`` by name, and 2-D convolutions are inflated
    to 3-D (:mod:`medtl.transfer.channel_adaptation`). Tensors that do not fit, and the blocks in
    ``reinit``, keep their random values.

    Args:
        mapping: target modality -> source modality, as the user stated.
        reinit: blocks to leave random.
        allow_partial: accept a transfer of less than half of the weights.
        source_modalities: the file's modalities, if it does not name them. Modalities or regions
            without names are taken in their order, with a warning in the receipt.

    Raises:
        WeightsError: less than half of what lies outside ``reinit`` and the head would be
            transferred (:mod:`medtl.transfer.mismatch`). The network is untouched.
        ConfigError: an unknown block or modality. The network is untouched.
    """
    _check_names(network, modalities, reinit)
    outputs = Names(weights.regions, regions, {})
    state = tensors(network)
    match = match_names(network, weights.tensors)
    if match.rivals:
        raise several(weights.path, _keys(match.rivals), network.name)
    saved = match.names
    colours = _colours(network, weights, saved)
    known = source_modalities or weights.modalities or colours
    channels = Names(known, modalities, mapping or {})
    rows, values = _each(network, weights, saved, reinit, channels, outputs)
    rows += _skipped(weights, network, set(saved.values()))
    receipt = _receipt(network, weights, rows, channels, outputs)
    if colours and known is colours:
        receipt = replace(receipt, notes=(*receipt.notes, _COLOURS_TAKEN))
    if not allow_partial and (problem := misfit(network, weights, receipt, reinit)):
        raise WeightsError(f"{weights.path}: {problem}, or go on with --allow-partial")
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return receipt


def _each(
    network: Network,
    weights: Weights,
    saved: Mapping[str, str],
    reinit: tuple[str, ...],
    channels: Names,
    outputs: Names,
) -> tuple[list[ReceiptRow], dict[str, Tensor]]:
    """A row for each tensor of the network, and the values of those that are transferred."""
    owners = partition(network)
    rows, values = [], {}
    for name, tensor in tensors(network).items():
        row = random_row(name, owners[name], tensor, source=saved.get(name, ""))
        if row.block in reinit:
            row = replace(row, note=LEFT_RANDOM)
        elif name not in saved:
            row = replace(row, note=NOT_IN_FILE)
        else:
            row, value = _placed(network, row, tensor, channels, outputs, weights)
            if value is not None:
                values[name] = value
        rows.append(row)
    return rows, values


def _colours(network: Network, weights: Weights, saved: Mapping[str, str]) -> tuple[str, ...]:
    """Red, green and blue, if the file is torchvision's network for pictures and names none."""
    first = [weights.tensors[saved[name]] for name in network.input_tensors if name in saved]
    of_pictures = bool(first) and all(w.ndim == 4 and w.shape[1] == len(COLOURS) for w in first)
    return COLOURS if of_pictures and torchvision_network(weights.tensors) else ()


def _keys(places: Mapping[str, int]) -> dict[str, int]:
    """Prefixes in a file as ``--weights-key`` takes them, with the number of tensors under each."""
    return {prefix.rstrip(".") or PLAIN_KEY: count for prefix, count in places.items()}


def random_row(name: str, block: str, tensor: Tensor, source: str = "") -> ReceiptRow:
    """The receipt's row of a tensor of the network that is left random."""
    is_parameter = isinstance(tensor, nn.Parameter)
    return ReceiptRow(
        name, block, "random", tuple(tensor.shape), tensor.numel(), is_parameter, source
    )


def _check_names(network: Network, modalities: Sequence[str], reinit: Sequence[str]) -> None:
    if len(modalities) != network.in_channels:
        raise ConfigError(
            f"network {network.name} takes {network.in_channels} channels, "
            f"but {len(modalities)} modalities are named: {', '.join(modalities)}"
        )
    check_block_names(network, reinit)


def load_exactly(network: Network, weights: Weights) -> None:
    """Load a checkpoint into the network it was saved from; WeightsError unless all tensors fit."""
    state, aliases = tensors(network), names_of(network.module)
    values: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = next((weights.tensors[a] for a in aliases[name] if a in weights.tensors), None)
        if value is None or value.shape != tensor.shape:
            has = "lacks it" if value is None else f"has {tuple(value.shape)}"
            raise WeightsError(
                f"{weights.path} does not fit {network.name}: {name} is {tuple(tensor.shape)}, "
                f"the file {has}"
            )
        values[name] = value
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)


def _placed(
    network: Network,
    row: ReceiptRow,
    tensor: Tensor,
    channels: Names,
    outputs: Names,
    weights: Weights,
) -> tuple[ReceiptRow, Tensor | None]:
    """The row of one tensor that the file has, and its new value; None leaves it random."""
    source = weights.tensors[row.source]
    if tensor.is_floating_point() and not source.is_floating_point():
        return replace(row, note=f"the file has {source.dtype}"), None
    deep = inflated(network, row.name, source, tensor)
    source = source if deep is None else deep
    adapted: Adapted | None = Adapted(source)
    if row.name in network.input_tensors:
        adapted = _first_layer(network, row.name, tensor, source, channels, weights)
    elif row.name in network.head_tensors and outputs.source and outputs.target:
        missing = [region for region in outputs.target if region not in outputs.source]
        if missing:
            return replace(row, note=f"the file has no {', '.join(missing)}"), None
        adapted = adapt_head(network, row.name, source, outputs.source, outputs.target)
    if adapted is None or adapted.weight.shape != tensor.shape:
        return replace(row, note=f"the file has {tuple(source.shape)}"), None
    notes, factors = adapted.notes, adapted.factors
    if not notes and source.dtype != tensor.dtype:
        notes = (f"cast from {source.dtype}",)
    if deep is not None:
        slices = tensor.shape[-1]
        notes = (f"2-D, repeated over {slices} slices / {slices}", *notes)
        factors = {**factors, "inflated": 1 / slices}
    status: Status = "adapted" if adapted.notes or deep is not None else "loaded"
    return replace(row, status=status, note="; ".join(notes), factors=factors), adapted.weight


def _first_layer(
    network: Network, name: str, tensor: Tensor, source: Tensor, channels: Names, weights: Weights
) -> Adapted | None:
    """None if the kernels or the numbers of outputs differ."""
    same_kernel = source.ndim == tensor.ndim and source.shape[2:] == tensor.shape[2:]
    if not same_kernel or source.shape[0] != tensor.shape[0]:
        return None
    known = channels.source
    if not known:
        if channels.mapping:
            raise ConfigError(
                f"--map: {weights.path} does not name its modalities; state --init-modalities"
            )
        if source.shape == tensor.shape:
            return Adapted(source)
        known = tuple(f"channel{index + 1}" for index in range(source.shape[1]))
    if len(known) != source.shape[1]:
        raise WeightsError(
            f"{weights.path}: {name} has {source.shape[1]} image channels, "
            f"but its modalities are {', '.join(known)}; correct --init-modalities"
        )
    if known == channels.target and all(a == b for a, b in channels.mapping.items()):
        return Adapted(source)
    normalised = len(known) != len(channels.target) and norm_follows(network, name)
    return adapt_input(
        source.to(tensor.dtype), known, channels.target, channels.mapping, normalised=normalised
    )


def _skipped(weights: Weights, network: Network, used: set[str]) -> list[ReceiptRow]:
    """Tensors of the file that are not used; tied tensors are listed once."""
    accounted = used | {alias for known in names_of(network.module).values() for alias in known}
    memory = {weights.tensors[name].data_ptr() for name in used}
    rows = []
    for name, tensor in weights.tensors.items():
        if name in accounted or (tensor.numel() and tensor.data_ptr() in memory):
            continue
        memory.add(tensor.data_ptr())
        note = "cancelled by the norm behind it" if is_cancelled_bias(name) else ""
        shape = tuple(tensor.shape)
        rows.append(ReceiptRow(name, "", "skipped", shape, tensor.numel(), source=name, note=note))
    return rows


def _receipt(
    network: Network,
    weights: Weights,
    rows: Sequence[ReceiptRow],
    channels: Names,
    outputs: Names,
) -> Receipt:
    kept = [row for row in rows if row.name in network.input_tensors and row.status != "random"]
    new: tuple[str, ...] = ()
    identical: tuple[tuple[str, str], ...] = ()
    notes = []
    if deep := sum("inflated" in row.factors for row in rows):
        notes.append(f"{deep} 2-D convolutions are repeated over the slices of 3-D ones")
    if kept and channels.source:
        plan = plan_channels(channels.source, channels.target, channels.mapping)
        new = tuple(channel.target for channel in plan if channel.new)
        identical = identical_pairs(plan)
    elif any(row.status == "adapted" for row in kept):
        new = channels.target
        identical = tuple(combinations(new, 2))
        notes.append("the file does not name its modalities: each channel starts as their mean")
    elif kept:
        notes.append(
            f"the file does not name its modalities: taken to be {', '.join(channels.target)}; "
            "state --init-modalities if they are others"
        )
    notes += identical_notes(identical)
    heads = [row for row in rows if row.name in network.head_tensors and row.status == "loaded"]
    if heads and not (outputs.source and outputs.target):
        notes.append("the file does not name its regions: its outputs are taken in order")
    return Receipt(portable(weights.path), tuple(rows), new, identical, tuple(notes))
