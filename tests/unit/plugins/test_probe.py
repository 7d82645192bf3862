"""A plugin that would end or change the process is found out in another one, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from medtl.plugins import probe
from medtl.plugins.catalog import GROUP, build_catalog
from medtl.plugins.loader import PluginError, load_plugin
from medtl.plugins.probe import refuse_fatal

HEAD = "from medtl import Component, hookimpl\nPLUGIN_API = 1\n"
HOOK = "@hookimpl\ndef medtl_networks():\n    return [Component('mine', 'os:getcwd', 'x')]\n"

FATAL = {
    "import os; os._exit(0)": r"ends Python \(exit code 0\)",
    "import ctypes; ctypes.string_at(0)": r"crashes Python \(SIGSEGV\)",
    "raise KeyboardInterrupt": "raises KeyboardInterrupt",
    "from medtl.plugins import loader; loader.COMPONENT_KINDS.clear()": "changes medtl.plugins.lo",
    "from medtl.plugins import catalog; catalog.Catalog.registries = None": "changes medtl.plugins",
    "import medtl.errors; medtl.errors.shortened = print": "changes medtl.errors.shortened",
}

HARMLESS = {
    "prints": "import os; os.write(1, b'x'); print('x'); os.system('echo x')",
    "is_broken": "import no_such_module",
    "exits": "import sys; sys.exit(0)",
    "imports_much_of_medtl": "import medtl.config, medtl.data.task, medtl.testing",
}

Write = Callable[[str], EntryPoint]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """An entry point to a module of this source; findings are kept in a cache of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))

    def written(source: str) -> EntryPoint:
        name = f"probed_{abs(hash((tmp_path, source)))}"
        (tmp_path / f"{name}.py").write_text(HEAD + source + "\n" + HOOK)
        return EntryPoint("mine", name, GROUP)

    return written


@pytest.mark.parametrize("source", FATAL)
def test_what_ends_or_changes_the_process_is_never_imported(source: str, write: Write) -> None:
    point = write(source)
    with pytest.raises(PluginError, match=FATAL[source]) as problem:
        refuse_fatal(point)
    assert point.value in str(problem.value) and "\n" not in str(problem.value)
    assert point.module not in sys.modules


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_can_be_told_here_is_left_to_the_loader(kind: str, write: Write) -> None:
    assert probe.fatal(write(HARMLESS[kind])) == ""


def test_an_import_that_hangs_is_named_and_given_up(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 1.0)
    monkeypatch.setattr(probe, "NAMED_AFTER_S", 0.5)
    point = write("import time; time.sleep(1000)")
    assert "takes more than 1 s" in probe.fatal(point)
    assert capsys.readouterr().err == f"note: waiting for plugin {point.name}, at most 1 s\n"


def test_a_finding_is_remembered_until_the_plugin_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = write("import os; os._exit(3)")
    found = probe.fatal(point)
    started = []

    def none_starts(*words: object, **options: object) -> None:
        started.append(words)
        raise OSError("no process")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", none_starts)
        assert probe.fatal(point) == found and "exit code 3" in found and not started
        source = tmp_path / f"{point.module}.py"
        source.write_text(HEAD + HOOK)
        with pytest.raises(OSError, match="no process"):
            probe.fatal(point)
    assert probe.fatal(point) == ""
    (finding,) = [p for p in (tmp_path / "cache/plugins").iterdir() if '""' in p.read_text()]
    for damaged in ("", "[]", '{"fatal": 3}', "[" * 100_000):
        finding.write_text(damaged)
        assert probe.fatal(point) == "" and json.loads(finding.read_text()) == {"fatal": ""}


def test_files_of_an_editable_plugin_are_looked_at(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = write("pass")
    elsewhere = (tmp_path / f"{point.module}.py").rename(tmp_path / "source.py")

    class Finder:  # as setuptools installs one
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            found = name == point.module
            return spec_from_file_location(name, elsewhere) if found else None

    def none_starts(*_words: object, **_options: object) -> None:
        raise OSError("no process")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    known = probe.fatal(point)
    monkeypatch.setattr(subprocess, "Popen", none_starts)
    assert probe.fatal(point) == known
    elsewhere.write_text(HEAD + HOOK)
    with pytest.raises(OSError, match="no process"):
        probe.fatal(point)


def test_a_bundle_without_a_package_of_its_own_is_not_tried(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "refuse_fatal", lambda point: pytest.fail("tried"))
    (row,) = build_catalog([write("")]).plugins
    assert row.status == "ok"


def test_nothing_that_a_plugin_prints_reaches_stdout(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    source = "import os, sys\nos.write(1, b'a')\nprint('b')\nsys.__stdout__.write('c')\n"
    load_plugin(write(source + "os.system('echo d')"))
    printed = capfd.readouterr()
    assert printed.out == "" and set("abcd") <= set(printed.err)


def test_the_plugin_that_ended_a_command_is_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "ending_package.py").write_text("def build():\n    raise SystemExit(0)\n")
    point = write("").module
    source = tmp_path / f"{point}.py"
    source.write_text(HEAD + HOOK.replace("os:getcwd", "ending_package:build"))
    catalog = build_catalog([EntryPoint("mine", point, GROUP)])
    with pytest.raises(SystemExit) as ended:
        catalog.networks["mine"].load()()
    assert catalog.plugin_in(ended.value.__traceback__) == "mine"
    assert catalog.plugin_in(None) == ""
