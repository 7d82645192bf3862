"""A run folder is held by one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.errors import RunError
from medtl.runtime.lock import locked, refuse_held


def test_a_run_is_held_by_one_command(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(RunError, match="another process"):
            refuse_held(tmp_path)
        with pytest.raises(RunError, match="another process"), locked(tmp_path):
            pass
    refuse_held(tmp_path)
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()
