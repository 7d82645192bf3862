"""Weights into a network, tensor by tensor, with a receipt.

Axes: O outputs, I image channels of the source, C those of the network, x the kernel's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError, UnknownNameError, WeightsError
from medtl.networks.blocks import Network, names_of, partition, tensors
from medtl.transfer.adapt import (
    adapt_input,
    identical_pairs,
    inflated,
    plan_channels,
    select_regions,
)
from medtl.transfer.mismatch import misfit
from medtl.transfer.nnunet_names import dynunet_names, is_cancelled_bias
from medtl.transfer.receipt import Receipt, ReceiptRow, Status, alike_notes
from medtl.transfer.response import norm_follows
from medtl.transfer.weights import Weights


@dataclass(frozen=True, slots=True)
class Names:
    """How two sets of names, of modalities or of regions, face each other."""

    source: tuple[str, ...]  #: empty: unknown
    target: tuple[str, ...]
    mapping: Mapping[str, str]  #: target name -> source name, as the user stated


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tensor of the network becomes; ``value`` None leaves it random."""

    status: Status
    value: Tensor | None = None
    note: str = ""
    factors: dict[str, float] | None = None


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
    """Load ``weights`` into ``network`` in place and say what became of every tensor.

    Tensors of the same name and shape are loaded; first layers are adapted from the source's
    modalities to ``modalities`` (see :mod:`medtl.transfer.adapt`), heads to ``regions`` by name;
    what does not fit, and the blocks in ``reinit``, stay as they were (random).
    ``source_modalities`` states what the file does not. Two files that name neither modalities
    nor regions are taken in their order, and the receipt warns.

    2-D convolutions are inflated into 3-D ones (:mod:`medtl.transfer.adapt`).

    Raises WeightsError if less than half of what lies outside ``reinit`` and the head would be
    transferred (:mod:`medtl.transfer.mismatch`), unless ``allow_partial``; ConfigError for names
    that are not there. The network is untouched then.
    """
    if len(modalities) != network.in_channels:
        raise ConfigError(
            f"network {network.name} takes {network.in_channels} channels, "
            f"but {len(modalities)} modalities are named: {', '.join(modalities)}"
        )
    for block in reinit:
        if block not in (known := [b.name for b in network.blocks]):
            raise UnknownNameError(f"block of {network.name}", block, known)
    channels = Names(source_modalities or weights.modalities, modalities, mapping or {})
    outputs = Names(weights.regions, regions, {})
    state, owners = tensors(network), partition(network)
    found = match_names(network, weights.tensors)
    rows, values = [], {}
    for name, tensor in state.items():
        if owners[name] in reinit:
            outcome = Outcome("random", note="left random as asked")
        elif name not in found:
            outcome = Outcome("random", note="not in the file")
        else:
            source = weights.tensors[found[name]]
            outcome = _outcome(network, name, tensor, source, channels, outputs, weights)
        rows.append(_row(name, owners[name], tensor, outcome, found.get(name, "")))
        if outcome.value is not None:
            values[name] = outcome.value
    rows += _skipped(weights, network, set(found.values()))
    receipt = _receipt(network, weights, rows, channels, outputs)
    if not allow_partial and (problem := misfit(network, weights, receipt, reinit)):
        raise WeightsError(f"{weights.path}: {problem}, or go on with --allow-partial")
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return receipt


def load_exactly(network: Network, weights: Weights) -> None:
    """Load a checkpoint into the very network it was saved from; WeightsError unless all fits."""
    state, aliases = tensors(network), names_of(network.module)
    values = {
        name: next((weights.tensors[a] for a in aliases[name] if a in weights.tensors), None)
        for name in state
    }
    for name, tensor in state.items():
        value = values[name]
        if value is None or value.shape != tensor.shape:
            has = "lacks it" if value is None else f"has {tuple(value.shape)}"
            raise WeightsError(
                f"{weights.path} does not fit {network.name}: {name} is {tuple(tensor.shape)}, "
                f"the file {has}"
            )
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                state[name].copy_(value)


def _outcome(
    network: Network,
    name: str,
    tensor: Tensor,
    source: Tensor,
    channels: Names,
    outputs: Names,
    weights: Weights,
) -> Outcome:
    if tensor.is_floating_point() and not source.is_floating_point():
        return Outcome("random", note=f"the file has {source.dtype}")
    deep = inflated(network, name, source, tensor)
    if deep is None:
        return _placed(network, name, tensor, source, channels, outputs, weights)
    outcome = _placed(network, name, tensor, deep, channels, outputs, weights)
    if outcome.value is None:
        return outcome
    slices = tensor.shape[-1]
    note = "; ".join(filter(None, (f"2-D, repeated over {slices} slices / {slices}", outcome.note)))
    factors = {**(outcome.factors or {}), "inflated": 1 / slices}
    return replace(outcome, status="adapted", note=note, factors=factors)


def _placed(
    network: Network,
    name: str,
    tensor: Tensor,
    source: Tensor,
    channels: Names,
    outputs: Names,
    weights: Weights,
) -> Outcome:
    if name in network.input_tensors:
        return _first_layer(network, name, tensor, source, channels, weights)
    if name in network.head_tensors and outputs.source and outputs.target:
        return _head(network, name, tensor, source, outputs)
    return _as_is(tensor, source)


def _as_is(tensor: Tensor, source: Tensor) -> Outcome:
    if source.shape != tensor.shape:
        return Outcome("random", note=f"the file has {tuple(source.shape)}")
    cast = "" if source.dtype == tensor.dtype else f"cast from {source.dtype}"
    return Outcome("loaded", source, cast)


def _first_layer(
    network: Network, name: str, tensor: Tensor, source: Tensor, channels: Names, weights: Weights
) -> Outcome:
    same_kernel = source.ndim == tensor.ndim and source.shape[2:] == tensor.shape[2:]
    if not same_kernel or source.shape[0] != tensor.shape[0]:
        return Outcome("random", note=f"the file has {tuple(source.shape)}")
    known = channels.source
    if not known:
        if channels.mapping:
            raise ConfigError(
                f"--map: {weights.path} does not name its modalities; state --init-modalities"
            )
        if source.shape == tensor.shape:
            return _as_is(tensor, source)
        known = tuple(f"channel{index + 1}" for index in range(source.shape[1]))
    if len(known) != source.shape[1]:
        raise WeightsError(
            f"{weights.path}: {name} has {source.shape[1]} image channels, "
            f"but its modalities are {', '.join(known)}; correct --init-modalities"
        )
    if known == channels.target and all(a == b for a, b in channels.mapping.items()):
        return _as_is(tensor, source)
    normalised = len(known) != len(channels.target) and norm_follows(network, name)
    adapted = adapt_input(
        source.to(tensor.dtype), known, channels.target, channels.mapping, normalised=normalised
    )
    note = "; ".join(adapted.notes)
    return Outcome("adapted", adapted.weight, note, adapted.factors)


def _head(network: Network, name: str, tensor: Tensor, source: Tensor, outputs: Names) -> Outcome:
    """A head follows its regions' names: the same ones in another order, or some of them."""
    missing = [region for region in outputs.target if region not in outputs.source]
    if missing:
        return Outcome("random", note=f"the file has no {', '.join(missing)}")
    if outputs.source == outputs.target:
        return _as_is(tensor, source)
    value = select_regions(network, name, source, outputs.source, outputs.target)
    if value.shape != tensor.shape:
        return Outcome("random", note=f"the file has {tuple(source.shape)}")
    return Outcome("adapted", value, f"regions {', '.join(outputs.target)} by name")


def _row(name: str, block: str, tensor: Tensor, outcome: Outcome, source: str) -> ReceiptRow:
    return ReceiptRow(
        name=name,
        block=block,
        status=outcome.status,
        shape=tuple(tensor.shape),
        numel=tensor.numel(),
        parameter=isinstance(tensor, nn.Parameter),
        source=source,
        note=outcome.note,
        factors=outcome.factors or {},
    )


def _skipped(weights: Weights, network: Network, used: set[str]) -> list[ReceiptRow]:
    """Tensors of the file that go nowhere, once each; further names of used ones are no such."""
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
    alike: tuple[tuple[str, str], ...] = ()
    notes = []
    if deep := sum("inflated" in row.factors for row in rows):
        notes.append(f"{deep} 2-D convolutions are repeated over the slices of 3-D ones")
    if kept and channels.source:
        plan = plan_channels(channels.source, channels.target, channels.mapping)
        new = tuple(channel.target for channel in plan if channel.new)
        alike = identical_pairs(plan)
    elif any(row.status == "adapted" for row in kept):
        new = channels.target
        alike = tuple((a, b) for i, a in enumerate(new) for b in new[i + 1 :])
        notes.append("the file does not name its modalities: each channel starts as their mean")
    elif kept:
        notes.append(
            f"the file does not name its modalities: taken to be {', '.join(channels.target)}; "
            "state --init-modalities if they are others"
        )
    notes += alike_notes(alike)
    heads = [row for row in rows if row.name in network.head_tensors and row.status == "loaded"]
    if heads and not (outputs.source and outputs.target):
        notes.append("the file does not name its regions: its outputs are taken in order")
    return Receipt(str(weights.path), tuple(rows), new, alike, tuple(notes))


def match_names(network: Network, saved: Collection[str]) -> dict[str, str]:
    """Network tensor -> name in the file (``saved``), under whichever renaming fits most of them.

    Tried: the names as they are, nnU-Net's as DynUNet's, and the names without their first part
    or behind a first part of the network's (Lightning modules and bare encoders).
    """
    aliases = names_of(network.module)
    renamings = [{name: name for name in saved}]
    renamings.append({new: old for old, new in dynunet_names(saved).items()})
    for prefix in sorted({name.partition(".")[0] + "." for name in saved}):
        renamings.append({n.removeprefix(prefix): n for n in saved if n.startswith(prefix)})
    for prefix in sorted({name.partition(".")[0] + "." for name in aliases}):
        renamings.append({prefix + name: name for name in saved})

    def match(renaming: Mapping[str, str]) -> dict[str, str]:
        hits = {first: [a for a in known if a in renaming] for first, known in aliases.items()}
        return {first: renaming[known[0]] for first, known in hits.items() if known}

    return max(map(match, renamings), key=len)
