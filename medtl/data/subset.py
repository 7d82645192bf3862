"""A limited number of items of a sequence, evenly spaced."""

from __future__ import annotations


def stride(count: int, most: int) -> int:
    """The smallest step that takes at most ``most`` of ``count`` items: ``items[::step]``."""
    return max(1, -(-count // most))


def evenly_spaced(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` items, the first and the last among them."""
    if min(count, most) <= 1:
        return [0][:count]
    step = (count - 1) / (min(count, most) - 1)
    return [round(index * step) for index in range(min(count, most))]
