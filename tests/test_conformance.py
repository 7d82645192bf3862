"""The bundled plugins are tested by exactly the kit that third parties have."""

from __future__ import annotations

from collections.abc import Callable

from medtl.testing import parametrize_with_checks


@parametrize_with_checks(
    "unet3d", expected_failures={"unetr/gradients-reach-every-parameter": "todo"}
)
def test_unet3d(check: Callable[[], None]) -> None:
    check()
