"""A run folder is held by one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.errors import RunError
from medtl.runtime.lock import locked, locked_output, refuse_held


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


def test_a_folder_for_output_is_made_held_and_removed_if_nothing_was_written(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "new" / "deep"
    with locked_output(folder), pytest.raises(RunError, match="another process"):
        refuse_held(folder)
    assert not (tmp_path / "new").exists()
    with locked_output(folder):
        (folder / "a.txt").write_text("a")
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    with locked_output(folder):
        (folder / "a.txt").unlink()
    assert folder.is_dir()  # it was there before
