"""What several processes found is put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medtl.runtime import distributed


def test_warnings_of_every_process_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [["a", "b"], ["b", "c"]]

    def all_gather_object(parts: list[Any], own: list[str]) -> None:
        assert own == found[0]
        parts[:] = found

    monkeypatch.setattr(
        distributed, "distributed", SimpleNamespace(all_gather_object=all_gather_object)
    )
    two: Any = SimpleNamespace(world_size=2)
    assert distributed.union(two, found[0]) == ["a", "b", "c"]
    alone: Any = SimpleNamespace(world_size=1)
    assert distributed.union(alone, found[1]) == ["b", "c"]
