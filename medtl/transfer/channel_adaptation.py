"""Channel adaptation: first-layer weights of one set of modalities, rewritten for another.

Axes: O outputs, I image channels of the source, C image channels of the target, x the kernel's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn

from medtl.data.modality import COLOURS, GREY, NEAREST
from medtl.errors import ConfigError
from medtl.networks.blocks import Network, tensors


@dataclass(frozen=True, slots=True)
class Channel:
    """Where one target channel comes from: one source channel, or the mean of several."""

    target: str
    sources: tuple[int, ...]
    origin: str  #: "t1ce", or "mean(t1ce,flair)"
    new: bool  #: the source was not trained on this modality
    summed: bool = False  #: the sum of several instead: a grey channel stands for all colours


@dataclass(frozen=True, slots=True)
class Adapted:
    """A weight to load, and all that was done to it; without ``notes`` it is as in the file.

    ``factors`` holds one factor per rescaled modality, and under ``"all"`` the one for the whole
    tensor. ``identical`` lists the pairs of channels that are equal up to a factor.
    """

    weight: Tensor
    notes: tuple[str, ...] = ()
    factors: dict[str, float] = field(default_factory=dict)
    new_modalities: tuple[str, ...] = ()
    identical: tuple[tuple[str, str], ...] = ()


def plan_channels(
    source: Sequence[str], target: Sequence[str], mapping: Mapping[str, str]
) -> tuple[Channel, ...]:
    """Choose every target channel's origin: as mapped, shared, nearest contrast, else the mean.

    A grey picture has equal red, green and blue, so its channel is their sum.

    Raises:
        ConfigError: ``mapping`` names an unknown modality.
    """
    for wanted, origin in mapping.items():
        if wanted not in target:
            raise ConfigError(
                f"--map {wanted}={origin}: the target has no {wanted}, only {', '.join(target)}"
            )
        if origin not in source:
            raise ConfigError(
                f"--map {wanted}={origin}: the weights know no {origin}, only {', '.join(source)}"
            )
    return tuple(_plan_channel(name, source, mapping) for name in target)


def _plan_channel(name: str, source: Sequence[str], mapping: Mapping[str, str]) -> Channel:
    wishes = (mapping[name],) if name in mapping else (name, *NEAREST.get(name, ()))
    for origin in wishes:
        if origin in source:
            return Channel(name, (source.index(origin),), origin, new=origin != name)
    if name == GREY and sorted(source) == sorted(COLOURS):
        return Channel(name, (0, 1, 2), "+".join(source), new=False, summed=True)
    everything = tuple(range(len(source)))
    return Channel(name, everything, f"mean({','.join(source)})", new=True)


def adapt_input(
    weight_OIx: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    mapping: Mapping[str, str] | None = None,
    *,
    normalised: bool,
) -> Adapted:
    """Rewrite a first-layer weight from modalities ``source`` to ``target``, both in channel order.

    A channel for a new modality is rescaled to the mean L2 norm of the source's channels: a mean of
    channels is smaller, and contrasts have different weights. If S channels become D and no
    normalisation follows (``normalised``), the weight is multiplied by sqrt(S/D), because the
    variances of z-scored channels add up. Errors as :func:`plan_channels`.
    """
    plan = plan_channels(source, target, mapping or {})
    norms_I = weight_OIx.double().transpose(0, 1).flatten(1).norm(dim=1)
    mean_norm = float(norms_I.mean())
    weight_OCx = weight_OIx.new_empty((weight_OIx.shape[0], len(plan), *weight_OIx.shape[2:]))
    factors: dict[str, float] = {}
    notes = []
    for index, channel in enumerate(plan):
        values_Ox = weight_OIx[:, list(channel.sources)].mean(dim=1)
        if channel.summed:
            values_Ox *= len(channel.sources)
        note = f"{channel.target} = {channel.origin}"
        norm = float(values_Ox.double().norm())
        if channel.new and norm > 0:
            factors[channel.target] = mean_norm / norm
            note += f" x {factors[channel.target]:.4g}"
        weight_OCx[:, index] = values_Ox * factors.get(channel.target, 1.0)
        notes.append(note)
    if len(source) != len(target) and not normalised and not any(c.summed for c in plan):
        factors["all"] = math.sqrt(len(source) / len(target))
        weight_OCx *= factors["all"]
        notes.append(f"all x sqrt({len(source)}/{len(target)}) = {factors['all']:.4g}")
    new_modalities = tuple(channel.target for channel in plan if channel.new)
    return Adapted(weight_OCx, tuple(notes), factors, new_modalities, identical_pairs(plan))


def identical_pairs(plan: Sequence[Channel]) -> tuple[tuple[str, str], ...]:
    """Pairs of target channels with one origin, which the network cannot distinguish at first."""
    return tuple(
        (one.target, other.target)
        for one, other in combinations(plan, 2)
        if one.sources == other.sources
    )


def adapt_head(
    network: Network, name: str, source: Tensor, known: Sequence[str], wanted: Sequence[str]
) -> Adapted:
    """The head tensor ``source`` of the regions ``known``, cut and ordered to those ``wanted``."""
    if known == wanted:
        return Adapted(source)
    order = torch.tensor([known.index(region) for region in wanted])
    for axis in _region_axes(network, name, source, len(known)):
        source = source.index_select(axis, order)
    return Adapted(source, (f"regions {', '.join(wanted)} by name",))


def _region_axes(network: Network, name: str, source: Tensor, count: int) -> list[int]:
    """The axes of a head tensor that count regions.

    These are a layer's outputs, and its inputs too if it follows another layer of the head (the
    residual unit at the end of MONAI's UNet).
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


def inflated(network: Network, name: str, source: Tensor, target: Tensor) -> Tensor | None:
    """``source`` repeated over the slices of ``target``, the network's tensor ``name``.

    None unless ``source`` is of a 2-D and ``target`` of a 3-D convolution whose kernels agree in
    the slice. Transposed convolutions are excluded: the number of taps that meet in a voxel varies.
    """
    if (source.ndim, target.ndim) != (4, 5) or source.shape[2:] != target.shape[2:4]:
        return None
    if not isinstance(network.module.get_submodule(name.rpartition(".")[0]), nn.Conv3d):
        return None
    return inflate(source, target.shape[4])


def inflate(weight_OIhw: Tensor, slices: int) -> Tensor:
    """weight_OIhwd whose response to equal slices is that of ``weight_OIhw`` to one of them.

    Slices are the last axis, as pictures are volumes of one slice (:mod:`medtl.data.io.pictures`).
    """
    return weight_OIhw.unsqueeze(-1).repeat(1, 1, 1, 1, slices) / slices
