"""Initialisers: change a network's weights after loading and before freezing.

Axes: O outputs, C image channels, x the kernel's, D its dimensions.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, tensors
from medtl.transfer.receipt import Receipt, redrawn

#: The shortest wavelength of a Gabor filter in voxels; the grid cannot represent shorter ones.
SHORTEST_WAVE = 2.5


#: Standard deviation of a Gabor filter's envelope in wavelengths: a bandwidth of one octave.
ENVELOPE = 0.56


class Initialiser(Protocol):
    """The type of an initialiser component.

    It changes the network in place, depends on ``seed`` alone, and adds its changes to the receipt.
    """

    def __call__(self, network: Network, receipt: Receipt, seed: int) -> Receipt: ...


def mean_var(network: Network, receipt: Receipt, seed: int) -> Receipt:
    """Redraw each loaded tensor, i.i.d. normal with its own mean and variance.

    This keeps the scale of trained weights and destroys their features. Running variances are drawn
    log-normal with the same two moments, so they stay positive; integers are kept.
    Source: Raghu et al. 2019 (Transfusion), Mean Var initialisation.

    Raises:
        ConfigError: no weights were loaded.
    """
    state, draw = tensors(network), torch.Generator().manual_seed(seed)
    loaded = [row.name for row in receipt.tensors if row.status in ("loaded", "adapted")]
    notes = {}
    for name in loaded:
        tensor = state[name]
        if tensor.is_floating_point():
            values = tensor.detach().cpu().double()
            mean, variance = float(values.mean()), float(values.var(correction=0))
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            with torch.no_grad():
                if name.endswith("running_var"):
                    tensor.copy_(_log_normal(noise, mean, variance))
                else:
                    tensor.copy_(mean + math.sqrt(variance) * noise)
            notes[name] = f"redrawn with mean {mean:.3g} and deviation {math.sqrt(variance):.3g}"
    if not notes:
        raise ConfigError(
            "mean-var redraws loaded weights, and none were loaded; give --init, or a --strategy "
            "that starts on the source"
        )
    summary = f"mean-var: {len(notes)} tensors redrawn, each with its mean and variance"
    return redrawn(receipt, notes, network.input_tensors, summary)


def gabor(network: Network, receipt: Receipt, seed: int) -> Receipt:
    """Fill the first layers with Gabor filters of random direction, wavelength and phase.

    Each filter weights the channels at random; the tensor keeps its standard deviation.
    Source: Raghu et al. 2019 (Transfusion), synthetic Gabor filters as first layer.

    Raises:
        ConfigError: no first layer has a kernel of 3 or more.
    """
    state, draw = tensors(network), torch.Generator().manual_seed(seed)
    notes = {}
    for name in network.input_tensors:
        weight_OCx = state[name]
        kernel = weight_OCx.shape[2:]
        if len(kernel) == network.spatial_dims and min(kernel) >= 3:
            filters_OCx = _gabor_filters(weight_OCx.shape, draw)
            scale = weight_OCx.detach().cpu().double().std() / filters_OCx.std()
            with torch.no_grad():
                weight_OCx.copy_(filters_OCx * scale)
            notes[name] = "Gabor filters"
    if not notes:
        raise ConfigError(f"gabor: no first layer of {network.name} has a kernel of 3 or more")
    summary = f"gabor: {', '.join(notes)} filled with Gabor filters"
    return redrawn(receipt, notes, network.input_tensors, summary)


def _log_normal(noise: Tensor, mean: float, variance: float) -> Tensor:
    """Positive numbers of this mean and variance; all equal to ``mean`` if it is not positive."""
    if mean <= 0:
        return torch.full_like(noise, mean)
    spread = math.log1p(variance / mean**2)
    return torch.exp(math.log(mean) - spread / 2 + math.sqrt(spread) * noise)


def _gabor_filters(shape_OCx: torch.Size, draw: torch.Generator) -> Tensor:
    """Filters of norm 1 and mean 0: a wave under a Gaussian envelope, per output."""
    outputs, channels, *kernel = shape_OCx
    axes = [torch.arange(edge, dtype=torch.float64) - (edge - 1) / 2 for edge in kernel]
    grid_xD = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    across = (-1, *[1] * len(kernel))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    def uniform(low: float, high: float) -> Tensor:
        drawn_O = torch.rand(outputs, generator=draw, dtype=torch.float64)
        return (low + (high - low) * drawn_O).view(across)

    direction_OD = torch.nn.functional.normalize(normal(outputs, len(kernel)), dim=1)
    wave_O = uniform(math.log(SHORTEST_WAVE), math.log(max(kernel))).exp()
    along_Ox = torch.einsum("...d,od->o...", grid_xD, direction_OD)
    envelope_Ox = torch.exp(-grid_xD.square().sum(-1) / (2 * (ENVELOPE * wave_O) ** 2))
    filters_Ox = envelope_Ox * torch.cos(2 * math.pi * along_Ox / wave_O + uniform(0, 2 * math.pi))
    filters_Ox = filters_Ox - filters_Ox.flatten(1).mean(1).view(across)
    filters_Ox = filters_Ox / filters_Ox.flatten(1).norm(dim=1).view(across)
    weights_OC = torch.nn.functional.normalize(normal(outputs, channels), dim=1)
    return torch.einsum("o...,oc->oc...", filters_Ox, weights_OC)
