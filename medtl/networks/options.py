"""Options of networks beside channels, outputs and width.

A plan under :func:`medtl.networks.builder.network_builder` names its options as keyword
parameters. Two are common: ``keep_blocks=k`` keeps the first k blocks and the head; with
``slim_from=k`` the blocks from number k on have a quarter of the width. Blocks are numbered from 1,
the stem; the head has no number.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtl.errors import ConfigError, UnknownNameError

#: Arguments of every builder; see :class:`medtl.networks.blocks.NetworkBuilder`.
NUMBERS = ("in_channels", "out_channels", "spatial_dims", "width", "patch_size")


#: A slim block has this many times fewer channels.
SLIM = 4


@dataclass(frozen=True, slots=True)
class BlockCut:
    """The number of blocks before the head, and how many of them have full width."""

    kept: int
    full: int

    def channels(self, published: Sequence[int]) -> tuple[int, ...]:
        """The channels of the kept blocks, from those of all blocks."""
        return tuple(
            count if number < self.full else max(1, count // SLIM)
            for number, count in enumerate(published[: self.kept])
        )


def cut_blocks(
    network: str, blocks: Sequence[str], keep_blocks: Any = None, slim_from: Any = None
) -> BlockCut:
    """Check the two options; ``blocks`` are the names of all blocks before the head.

    Raises:
        ConfigError: an option is not a number of these blocks.
    """
    kept = _number(network, "keep_blocks", keep_blocks, blocks)
    slim = _number(network, "slim_from", slim_from, blocks[:kept])
    return BlockCut(kept or len(blocks), slim - 1 if slim else len(blocks))


def _number(network: str, option: str, value: Any, blocks: Sequence[str]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= len(blocks):
        raise ConfigError(
            f"{network}: {option} counts the blocks before the head, 1 to {len(blocks)} "
            f"({', '.join(blocks)}), not {value!r}"
        )
    return value


def choose_head(
    network: str, head: Any, known: Mapping[str, Any], renamed: Mapping[str, str]
) -> Any:
    """The entry of ``known``; UnknownNameError for a head that is not there.

    ``renamed``: former names, as in ``Component.renamed``.
    """
    head = renamed.get(f"head={head}", f"head={head}").removeprefix("head=")
    if head not in known:
        raise UnknownNameError(f"head of {network}", head, known)
    return known[head]


def options_of(plan: Callable[..., Any]) -> dict[str, Any]:
    """A plan's options with their defaults: its keyword-only parameters."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(plan).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def check_accepted(network: str, builder: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """:func:`check_options` for any builder; a builder with ``**options`` checks them itself."""
    for name in NUMBERS:
        if name in options:
            raise ConfigError(
                f"network {network}: {name} is no option, as it follows from the settings; drop it"
            )
    parameters = inspect.signature(builder).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        own = {key: value for key, value in options_of(builder).items() if key not in NUMBERS}
        check_options(network, options, own)


def check_options(network: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise ConfigError, with the known options, for an option that the network does not have."""
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"network {network} has no option {name!r}; {has}")
