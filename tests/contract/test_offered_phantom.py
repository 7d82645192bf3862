"""Tasks that write the phantom they are tried on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from medtl.data.cohort import open_cohort
from medtl.data.phantom.cohort import OWN_CASES, own_phantom
from medtl.errors import DataError
from medtl.runtime.console import Reporter

MODULE = """
from medtl.data.task import Task

class Eyes(Task):
    name = "eyes"

    def write_phantom(self, folder, cases, seed):
        {body}

    def cases(self, root, **options):
        from medtl.data.case import Cohort
        return Cohort(root, ())
"""
WRITES = '(folder / "eyes.txt").write_text(f"{cases} {seed}")'


@pytest.fixture
def task_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``task_of(body)``: a task in a package of its own, whose writer does this."""
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(body: str = WRITES) -> Any:
        # Of another name in each test: a module is imported once.
        package = tmp_path / f"{tmp_path.name.replace('-', '_')}_{len(made)}"
        package.mkdir()
        (package / "__init__.py").write_text(MODULE.format(body=body))
        made.append(package)
        return importlib.import_module(package.name).Eyes()

    return make


def phantom_of(task: Any) -> Path:
    return own_phantom(task.name, task.write_phantom)


def test_it_is_written_once_and_marked_synthetic(task_of: Any) -> None:
    task = task_of()
    root = phantom_of(task)
    assert (root / "eyes.txt").read_text() == f"{OWN_CASES} 0"
    assert json.loads((root / "phantom.json").read_text())["synthetic"] is True
    written = (root / "eyes.txt").stat().st_mtime_ns
    assert phantom_of(task) == root
    assert (root / "eyes.txt").stat().st_mtime_ns == written


def test_another_writer_writes_another_phantom(task_of: Any) -> None:
    one, other = task_of(), task_of(WRITES.replace("eyes.txt", "more.txt"))
    assert phantom_of(one) != phantom_of(other)


def test_writers_that_no_file_defines_do_not_share_a_phantom() -> None:
    def written(name: str) -> Path:
        code = f"def write(folder, cases, seed):\n    (folder / {name!r}).touch()\n"
        defined: dict[str, Any] = {}
        exec(compile(code, "<cell>", "exec"), defined)
        return own_phantom("cell", defined["write"])

    assert (written("one") / "one").is_file()
    assert (written("two") / "two").is_file()


def test_a_writer_that_fails_leaves_nothing(task_of: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        phantom_of(task_of(WRITES + "; 1 / 0"))
    assert not list((tmp_path / "cache").iterdir())


def test_an_unusable_cache_is_one_line(task_of: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(DataError, match="set MEDTL_CACHE"):
        phantom_of(task_of())


def test_its_cases_are_synthetic_whatever_the_task_says(
    task_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of()
    cohort = open_cohort(task, None, Reporter())
    assert cohort.synthetic and not task.cases(cohort.root).synthetic
    assert "using the synthetic phantom cohort of task eyes" in capsys.readouterr().err
    assert open_cohort(task, cohort.root, Reporter(quiet=True)).synthetic
