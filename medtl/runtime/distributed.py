"""Share work among the processes of a run, one per device; a no-op with one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

Item = TypeVar("Item")


Result = TypeVar("Result")


def share(fabric: Fabric, items: Sequence[Item]) -> Sequence[Item]:
    """The items of this process: every n-th of ``n`` processes, each item once."""
    return items[fabric.global_rank :: fabric.world_size]


def gather(fabric: Fabric, results: Sequence[Result], total: int) -> list[Result]:
    """The results of all processes for their shares of ``total`` items, in the items' order."""
    if fabric.world_size == 1:
        return list(results)
    parts: list[Sequence[Result]] = [[] for _ in range(fabric.world_size)]
    distributed.all_gather_object(parts, list(results))
    return [parts[n % fabric.world_size][n // fabric.world_size] for n in range(total)]


def union(fabric: Fabric, texts: Sequence[str]) -> list[str]:
    """The texts of all processes, each once, those of the first process first."""
    if fabric.world_size == 1:
        return list(texts)
    parts: list[Sequence[str]] = [[] for _ in range(fabric.world_size)]
    distributed.all_gather_object(parts, list(texts))
    return list(dict.fromkeys(text for part in parts for text in part))


def mean_over(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean of the values of all processes, the same in all of them."""
    if fabric.world_size == 1:
        return values
    reduced = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    return reduced


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, for a loss that is not a mean over samples.

    Its gradient is right after DistributedDataParallel has averaged the parameters' gradients.
    """
    if not distributed.is_initialized() or not torch.is_grad_enabled():
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def gathered(values: Tensor) -> Tensor:
    """The rows of all processes, for a loss that compares them; gradients as :func:`summed`."""
    if not distributed.is_initialized() or not torch.is_grad_enabled():
        return values
    count, rank = len(values), distributed.get_rank()
    rows = values.new_zeros(distributed.get_world_size() * count, *values.shape[1:])
    rows = rows.index_copy(0, torch.arange(count, device=rows.device) + rank * count, values)
    return summed(rows)


class _Sum(torch.autograd.Function):
    """All-reduce forward and backward: every process's loss depends on every process's values."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        distributed.all_reduce(gradient)
        return gradient
