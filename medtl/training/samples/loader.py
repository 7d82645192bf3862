"""Cached cases -> patches whose randomness depends on the sample alone -> batches.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medtl.errors import DataError
from medtl.runtime.parallel import ahead
from medtl.runtime.signals import leave_signals_to_parent


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
    try:
        if workers:
            yield from loader
            return
        batches = iter(loader)
        # One thread of torch, as in a worker process: the sums in a patch are the same to the bit.
        one_thread = partial(torch.set_num_threads, 1)
        yield from ahead(lambda _: next(batches), range(len(loader)), one_thread)
    except DataError as problem:
        # Torch puts the worker's traceback before the message.
        raise DataError(str(problem).rpartition("DataError: ")[2].strip()) from problem
