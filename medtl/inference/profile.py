"""Where the time of ``medtl predict`` goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch import nn

from medtl.runtime.table import Table

Item = TypeVar("Item")

START, READ, NETWORK, PAINT, WRITE, WAIT = (
    *("start", "read and prepare", "network", "label map", "write"),
    "wait for the next case",
)

#: While the network computes, other threads do these.
_BESIDE = (READ, WRITE)


class Profile:
    """Seconds of each part of the work; parts of other threads overlap with the rest."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self.cases = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """The context whose time belongs to ``name``."""
        started = perf_counter()
        yield
        self.seconds[name] += perf_counter() - started

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the time until each one comes is that of waiting."""
        coming, end = iter(items), object()
        while True:
            with self.span(WAIT):
                item: Any = next(coming, end)
            if item is end:
                return
            self.cases += 1
            yield item

    def watch(self, module: nn.Module) -> None:
        """Take the time of a network's calls, as long as it exists."""
        started = 0.0

        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal started
            _wait(inputs[0])
            started = perf_counter()

        def after(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            _wait(output)
            self.seconds[NETWORK] += perf_counter() - started

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def table(self) -> Table:
        """The seconds of each part, and their shares of the whole."""
        whole = perf_counter() - self.began
        parts = {name: self.seconds[name] for name in (START, READ, WAIT, NETWORK, PAINT, WRITE)}
        parts[PAINT] -= parts[NETWORK]
        rows = [
            (name, f"{seconds:.2f}", f"{seconds / whole:.0%}", "yes" if name in _BESIDE else "")
            for name, seconds in (*parts.items(), ("whole", whole))
        ]
        return Table(
            f"Time of {self.cases} case{'' if self.cases == 1 else 's'}",
            ("part", "seconds", "share", "while others run"),
            tuple(rows),
        )


def _wait(tensor: torch.Tensor) -> None:
    """Until the device has computed it."""
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
