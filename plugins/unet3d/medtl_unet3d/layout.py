"""Blocks of an encoder-decoder from name patterns, and how MONAI's networks are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from medtl.networks.blocks import Block, Role
from medtl.networks.builder import MakeModule


def ladder(down: Sequence[str], up: Sequence[str], head: str) -> tuple[Block, ...]:
    """stem, encoder1.., bottleneck, decoder1 (the deepest).., head: the order of execution.

    Args:
        down: names of the modules of each block from the stem to the bottleneck, parted by spaces.
        up: those of each decoder.
        head: those of the head.
    """
    stem, *encoders, bottleneck = down
    return (
        _block("stem", "stem", stem),
        *(_block(f"encoder{n}", "encoder", names) for n, names in enumerate(encoders, 1)),
        _block("bottleneck", "bottleneck", bottleneck),
        *(_block(f"decoder{n}", "decoder", names) for n, names in enumerate(up, 1)),
        _block("head", "head", head),
    )


def _block(name: str, role: Role, modules: str) -> Block:
    return Block(name, role, tuple(f"{module}.*" for module in modules.split()))


def monai(network: Callable[..., nn.Module], spatial_dims: int, **settings: Any) -> MakeModule:
    """A network of MONAI with these settings, for any number of channels and outputs."""
    return lambda channels, outputs: network(
        spatial_dims=spatial_dims, in_channels=channels, out_channels=outputs, **settings
    )
