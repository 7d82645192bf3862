"""What a call has while it works: someone to tell, one process, and randomness of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

from medtl.console import Recorder
from medtl.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: torch's generator is the process's: of several threads one works at a time, else each would draw
#: what the other was to draw.
_DRAWING = RLock()


def recorder(verbose: bool) -> Recorder:
    return Recorder(quiet=not verbose)


def one_process(device: str, precision: str) -> Fabric:
    """Fabric on one device; within ``torchrun``, on this process's share of them."""
    from medtl.device import build_fabric

    return build_fabric(device, precision)


def check_processes(devices: int, nodes: int) -> None:
    """Raise ConfigError where a call would have to start its own program once more."""
    if devices * nodes > 1 and "LOCAL_WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"devices={devices}, num_nodes={nodes}: other processes would run this program again; "
            "start it by torchrun, or use medtl train --devices"
        )


@contextmanager
def own_randomness() -> Iterator[None]:
    """torch's random state is afterwards what it was before."""
    import torch

    # Of all GPUs only the one in use; asking for the others' states would wake them.
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if used else []
    with _DRAWING, torch.random.fork_rng(devices):
        yield
