"""Blocks of an encoder-decoder, from one entry of name patterns per block."""

from __future__ import annotations

from collections.abc import Sequence

from medtl.networks import Block, Role

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


def attributes(levels: int) -> tuple[Block, ...]:
    """The blocks of a network whose attributes are already named as blocks."""
    steps = range(1, levels)
    return ladder(
        stem="stem.*",
        encoders=[f"encoder{n}.*" for n in steps][:-1],
        bottleneck="bottleneck.*",
        decoders=[f"decoder{n}.*" for n in steps],
        head="head.*",
    )
