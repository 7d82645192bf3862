"""Cached cases -> patches whose randomness depends on the sample alone -> batches.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medtl.errors import DataError, MedtlError, RunError
from medtl.runtime.parallel import ahead
from medtl.runtime.signals import leave_signals_to_parent

#: What torch says of its files in shared memory, and of worker processes that are gone.
_SHARED_MEMORY = re.compile(r"shared memory|/torch_\d+")
_ENDED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)", re.DOTALL)


class SampleRange(Sampler[int]):
    """Sample numbers of one process: every ``processes``-th from ``first`` to ``last``."""

    def __init__(self, first: int, last: int, process: int = 0, processes: int = 1) -> None:
        self.numbers = range(first + process, last, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def build_loader(
    samples: Dataset[dict[str, Tensor]],
    first: int,
    steps: int,
    batch_size: int,
    workers: int,
    *,
    pin_memory: bool,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Mapping[str, Tensor]]:
    """One pass of ``steps`` batches; workers persist, so no step waits for a restart.

    Without workers a thread makes the next batch while the present one is trained on.
    ``batch_size`` counts the samples of all processes together; each gets an equal share.
    """
    loader = DataLoader(
        samples,
        batch_size=batch_size // processes,
        sampler=SampleRange(first, first + steps * batch_size, process, processes),
        num_workers=workers,
        pin_memory=pin_memory,
        drop_last=True,
        worker_init_fn=leave_signals_to_parent,
    )
    refused: MedtlError | None
    try:
        yield from loader if workers else _by_thread(loader)
        return
    except DataError as problem:
        # Torch puts the worker's traceback before the message.
        refused = DataError(str(problem).rpartition("DataError: ")[2].strip())
    except (OSError, RuntimeError, EOFError) as problem:
        refused = worker_failure(problem) if workers else None
        if refused is None:
            raise
    # Torch would complain at exit of each worker that is still there: let go of what holds them, a
    # traceback that refers to itself.
    gc.collect()
    raise refused


def _by_thread(loader: DataLoader[dict[str, Tensor]]) -> Iterator[Mapping[str, Tensor]]:
    """The loader's batches, each made by a thread while the one before is in use."""
    batches = iter(loader)
    # One thread of torch, as in a worker process: the sums in a patch are the same to the bit.
    one_thread = partial(torch.set_num_threads, 1)
    yield from ahead(lambda _: next(batches), range(len(loader)), one_thread)


def worker_failure(problem: OSError | RuntimeError | EOFError) -> RunError | None:
    """What ended the processes that make patches; None where it was something else.

    Torch raises this error at any line of the main process, from the handler of a signal.
    """
    text, code = str(problem), problem.errno if isinstance(problem, OSError) else None
    if code == errno.EMFILE or "Too many open files" in text or "ancillary data" in text:
        return RunError(
            "too many open files; lower --workers, or raise the limit (ulimit -n 65536)"
        )
    # Queues and locks lie there too; where there is no room for them, the error names no file.
    if _SHARED_MEMORY.search(text) or (
        isinstance(problem, OSError) and code == errno.ENOSPC and problem.filename is None
    ):
        return RunError(
            "shared memory (/dev/shm) is full; use --workers 0, or give the container more with "
            "--shm-size 8g"
        )
    # Where Python swallowed torch's error, as in a callback, the worker's pipe is what tells.
    if _ENDED.search(text) or isinstance(problem, ConnectionResetError | EOFError):
        return RunError(
            "a data worker was killed, probably for want of memory; lower --workers (0: none)"
        )
    return None
