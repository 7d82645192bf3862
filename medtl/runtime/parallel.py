"""Making the next item ready while the present one is in use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    begin: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """``function`` of each item in order, the next one computed while this one is in use.

    What ``function`` raises is raised when that item's turn comes. ``begin`` is called first, in
    the thread that computes.
    """
    with ThreadPoolExecutor(1, initializer=begin) as reader:
        coming: Future[Result] | None = None
        for item in items:
            following = reader.submit(function, item)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of each item, in order; the first error in order is raised."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))
