"""Tasks that bring the phantom they are tried on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from medtl.case import Cohort
from medtl.console import Reporter
from medtl.errors import ConfigError, DataError
from medtl.phantom.offered import CASES, SEED, offered_phantom
from medtl.planning import read_cohort

MODULE = """
class Eyes:
    name = "eyes"

    def write_phantom(self, folder, cases, seed):
        {body}

    def cases(self, root, **options):
        from medtl.case import Cohort
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


def test_it_is_written_once_and_marked_synthetic(task_of: Any) -> None:
    task = task_of()
    root = offered_phantom(task)
    assert (root / "eyes.txt").read_text() == f"{CASES} {SEED}"
    assert json.loads((root / "phantom.json").read_text())["synthetic"] is True
    (root / "eyes.txt").write_text("as before")
    assert offered_phantom(task) == root
    assert (root / "eyes.txt").read_text() == "as before"


def test_another_writer_writes_another_phantom(task_of: Any) -> None:
    one, other = task_of(), task_of(WRITES.replace("eyes.txt", "more.txt"))
    assert offered_phantom(one) != offered_phantom(other)


def test_a_writer_that_fails_leaves_nothing(task_of: Any, tmp_path: Path) -> None:
    task = task_of(WRITES + "; 1 / 0")
    with pytest.raises(ZeroDivisionError):
        offered_phantom(task)
    assert not list((tmp_path / "cache").iterdir())


def test_an_unusable_cache_is_one_line(task_of: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(DataError, match="set MEDTL_CACHE"):
        offered_phantom(task_of())


def test_its_cases_are_synthetic_whatever_the_task_says(
    task_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of()
    cohort = read_cohort(task, None, Reporter())
    assert cohort.synthetic and not task.cases(cohort.root).synthetic
    assert "using the synthetic phantom of task eyes" in capsys.readouterr().err
    assert read_cohort(task, cohort.root, Reporter(quiet=True)).synthetic


def test_a_task_without_phantom_asks_for_data() -> None:
    class Bare:
        name = "bare"

        def cases(self, root: Path, **options: Any) -> Cohort:
            raise AssertionError("there is nothing to read")

    with pytest.raises(ConfigError, match="give yours by --data"):
        read_cohort(Bare(), None, Reporter(quiet=True))  # type: ignore[arg-type]
