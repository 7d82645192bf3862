"""A bound on the numbers that a network's construction allocates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: What makes a tensor of a size that is asked for.
_MAKES = frozenset(
    (
        *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye),
        *(torch.rand, torch.randn, torch.arange, torch.linspace),
    )
)

#: A tensor counts as this many numbers at least, as a million small ones take long, too.
_LEAST = 64


class TooLargeError(Exception):
    """A network asks for more numbers than it may."""


class _Budget(TorchFunctionMode):
    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _MAKES and str(given.get("device")) != "meta" and "out" not in given:
            # Asked on shapes alone first.
            bare = {k: v for k, v in given.items() if k not in ("generator", "pin_memory")}
            self.left -= max(_LEAST, func(*args, **{**bare, "device": "meta"}).numel())
            if self.left < 0:
                raise TooLargeError
        return func(*args, **given)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Raise TooLargeError before more than ``numbers`` are allocated within the block.

    Tensors on torch's meta device are free.
    """
    with _Budget(numbers):
        yield
