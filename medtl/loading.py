"""Cached cases -> patches whose randomness depends on the sample alone -> batches.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medtl.ahead import ahead
from medtl.augment import apply, draw
from medtl.data import Preprocessor
from medtl.errors import DataError
from medtl.interruption import leave_signals_to_parent


class Patches(Dataset[dict[str, Tensor]]):
    """Augmented patches, addressed by the number of the sample on its domain.

    The patient and all randomness of sample n depend on (``key``, n) alone, the key naming seed and
    domain: every pass over the patients is a new seeded order, whatever the workers, the cache or
    the processes.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        count: int,
        recipe: Preprocessor,
        patch: tuple[int, ...],
        key: str,
    ) -> None:
        self.cached = cached
        self.count = count
        self.recipe = recipe
        self.patch = patch
        self.key = key

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        case = self.cached[shuffled(self.key, sample, self.count)]
        i, j, k = (*self.patch, 1) if len(self.patch) == 2 else self.patch
        drawn = draw(
            self.recipe.preset.augmentation,
            case["centres"],
            tuple(case["image"].shape[1:]),
            (i, j, k),
            len(self.recipe.modalities),
            seed_of(self.key, "sample", sample),
        )
        image, target = apply(drawn, case["image"], case["target"], (i, j, k))
        if len(self.patch) == 2:
            image, target = image[..., 0], target[..., 0]
        return {"image": image, "target": target}


def shuffled(key: str, sample: int, count: int) -> int:
    """Which of ``count`` cases a sample shows: every pass over them is a new order."""
    turn, position = divmod(sample, count)
    return int(_order(key, turn, count)[position])


@lru_cache(maxsize=8)
def _order(key: str, turn: int, count: int) -> NDArray[np.int64]:
    """Kept, as making it for each sample would take as long as half of a picture's augmentation."""
    return np.random.default_rng(seed_of(key, turn)).permutation(count)


def seed_of(*parts: object) -> int:
    """A seed that depends on ``parts`` alone, on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


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
) -> Iterable[Mapping[str, Tensor]]:
    """One pass of ``steps`` batches; workers persist, so no step waits for a restart.

    Without workers a thread makes the next batch while the present one is trained on.
    ``batch_size`` counts the samples of all processes together, of which each gets its share.
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
    return loader if workers else _made_ahead(loader)


def _made_ahead(loader: DataLoader[Mapping[str, Tensor]]) -> Iterator[Mapping[str, Tensor]]:
    batches = iter(loader)
    # One thread of torch, as in a worker process: the sums in a patch are the same to the bit.
    return ahead(lambda _: next(batches), range(len(loader)), lambda: torch.set_num_threads(1))


def plainly(
    batches: Iterable[Mapping[str, Tensor]],
) -> Iterator[Mapping[str, Tensor]]:
    """The batches; what a worker finds wrong with a case is told in its own words alone."""
    try:
        yield from batches
    except DataError as problem:
        # Torch puts the worker's traceback before them.
        raise DataError(str(problem).rpartition("DataError: ")[2].strip()) from problem
