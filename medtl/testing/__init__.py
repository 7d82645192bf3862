"""The conformance kit: what every component of its kind must keep, for authors of plugins.

In a plugin's own tests::

    from medtl.testing import parametrize_with_checks

    @parametrize_with_checks("my-plugin", expected_failures={})
    def test_conformance(check) -> None:
        check()

``medtl plugins check my-plugin`` runs the same. The bundled plugins are tested by nothing else in
``tests/contract/test_conformance.py``. Light to import: what a kind of component needs is
imported when a plugin offers one.
"""

from __future__ import annotations

from medtl.testing.check import Check, CheckFailed, outcome
from medtl.testing.collect import checks, parametrize_with_checks

__all__ = ["Check", "CheckFailed", "checks", "outcome", "parametrize_with_checks"]
