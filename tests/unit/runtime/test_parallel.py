"""Reading ahead keeps the order, is one item ahead and raises in turn."""

from __future__ import annotations

import threading

import pytest

from medtl.runtime.parallel import ahead


def test_order_is_kept_and_nothing_is_lost() -> None:
    assert list(ahead(lambda n: n * n, range(5))) == [0, 1, 4, 9, 16]
    assert list(ahead(lambda n: n, [])) == []


def test_next_item_is_computed_while_this_one_is_in_use() -> None:
    begun = {n: threading.Event() for n in range(4)}

    def compute(n: int) -> int:
        begun[n].set()
        return n

    for n in ahead(compute, range(4)):
        assert n == 3 or begun[n + 1].wait(10)
        assert n > 1 or not begun[n + 2].is_set()


def test_error_comes_when_its_turn_does() -> None:
    got = []
    with pytest.raises(ZeroDivisionError):
        for value in ahead(lambda n: 1 / n, [1, 2, 0, 4]):
            got.append(value)
    assert got == [1, 0.5]
