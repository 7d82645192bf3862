"""Work in threads: many items at once, or the next item while the present one is in use."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from medtl.runtime.console import Advance

Item = TypeVar("Item")


Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    begin: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """``function`` of each item in order, the next one computed while this one is in use.

    An exception of ``function`` is raised at its item's turn. ``begin`` is called first, in the
    thread that computes.
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


def in_threads(
    function: Callable[[Item], Result],
    items: Collection[Item],
    advance: Advance | None = None,
    *,
    threads: int = 8,
) -> list[Result]:
    """``function`` of each item, in order; the first error in order is raised and stops the rest.

    Args:
        advance: called with the number of items done, as ``Reporter.progress`` yields it.
        threads: at most this many, and no more than there are cores.
    """
    results: list[Result] = []
    pool = ThreadPoolExecutor(min(threads, os.cpu_count() or 1))
    try:
        for result in pool.map(function, items):
            results.append(result)
            if advance is not None:
                advance(len(results))
    finally:
        pool.shutdown(cancel_futures=True)
    return results
