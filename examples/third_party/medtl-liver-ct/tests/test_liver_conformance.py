"""medtl's own checks of everything that the plugin offers."""

from __future__ import annotations

from collections.abc import Callable

from medtl.testing import parametrize_with_checks


@parametrize_with_checks("liver-ct")
def test_conformance(check: Callable[[], None]) -> None:
    check()
