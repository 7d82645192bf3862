"""Blocks of an encoder-decoder, from one entry of name patterns per block."""

from __future__ import annotations

from collections.abc import Sequence

from medtl.networks.blocks import Block, Role

Patterns = str | tuple[str, ...]


def ladder(
    stem: Patterns,
    encoders: Sequence[Patterns],
    bottleneck: Patterns,
    decoders: Sequence[Patterns],
    head: Patterns,
) -> tuple[Block, ...]:
    """stem, encoder1.., bottleneck, decoder1 (the deepest).., head: the order of execution."""
    return (
        _block("stem", "stem", stem),
        *(_block(f"encoder{n}", "encoder", entry) for n, entry in enumerate(encoders, 1)),
        _block("bottleneck", "bottleneck", bottleneck),
        *(_block(f"decoder{n}", "decoder", entry) for n, entry in enumerate(decoders, 1)),
        _block("head", "head", head),
    )


def _block(name: str, role: Role, patterns: Patterns) -> Block:
    return Block(name, role, (patterns,) if isinstance(patterns, str) else patterns)


def attributes(down: Sequence[str], up: Sequence[str]) -> tuple[Block, ...]:
    """The blocks of a network whose attributes are named ``down`` and, behind those, ``up``.

    The last of ``down`` is the bottleneck, whatever it is called.
    """
    return ladder(
        stem=f"{down[0]}.*",
        encoders=[f"{name}.*" for name in down[1:-1]],
        bottleneck=f"{down[-1]}.*",
        decoders=[f"{name}.*" for name in up],
        head="head.*",
    )
