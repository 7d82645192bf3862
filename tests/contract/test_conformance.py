"""The bundled plugins are tested by exactly the kit that third parties have."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

from medtl.plugins.catalog import GROUP
from medtl.testing import checks

BUNDLED = sorted(
    point.name
    for point in entry_points(group=GROUP)
    if point.dist is not None and point.dist.name == "medtl"
)
EVERY = [check for name in BUNDLED for check in checks(name)]


@pytest.mark.parametrize("check", EVERY, ids=str)
def test_bundled_plugin(check: Callable[[], None]) -> None:
    check()
