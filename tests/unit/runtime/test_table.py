"""Numbers in tables."""

from __future__ import annotations

import pytest

from medtl.runtime.table import percentage


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0.0%"),
        (1e-9, "<0.1%"),
        (0.00049, "<0.1%"),
        (0.0005, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.9996, ">99.9%"),
        (1, "100.0%"),
    ],
)
def test_a_share_is_not_rounded_to_nothing_or_to_all(share: float, text: str) -> None:
    assert percentage(share) == text
