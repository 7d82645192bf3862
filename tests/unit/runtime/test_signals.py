"""A signal ends a command with one line and its own exit code, from the first import on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from medtl.cli import start
from medtl.cli.errors import guarded
from medtl.runtime.signals import Stop, stoppable

LINES = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}


@pytest.fixture(autouse=True)
def handled_signals() -> Iterator[None]:
    """A shell that starts the tests in the background has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", LINES)
def test_a_signal_is_one_line_and_a_code(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> None:
        os.kill(os.getpid(), number)
        pytest.fail("goes on")

    def broken_import() -> None:
        try:
            told()
        except KeyboardInterrupt:
            raise ImportError("cannot load module more than once per process") from None

    text, code = LINES[number]
    before = signal.getsignal(number)
    for command in (told, broken_import):
        with stoppable() as stop:
            assert guarded(command, debug=False, stop=stop) == code
        assert capsys.readouterr().err == f"error: {text}\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, ImportError])
def test_the_first_imports_can_be_stopped(
    number: signal.Signals,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Slow(ModuleType):
        def __getattr__(self, name: str) -> object:
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                raise kind from None
            raise AssertionError

    monkeypatch.setitem(sys.modules, "medtl.cli.main", Slow("medtl.cli.main"))
    with pytest.raises(SystemExit) as ended:
        start.main()
    text, code = LINES[number]
    assert ended.value.code == code
    assert capsys.readouterr().err == f"error: {text}\n"


def test_what_nobody_asked_for_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medtl.cli.main", None)
    with pytest.raises(ImportError):
        start.main()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_component_that_exits_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    for value in (0, None, 3):

        def exits(value: object = value) -> None:
            sys.exit(value)

        assert guarded(exits, debug=False, stop=Stop()) == 1
        assert f"called sys.exit({value}); report it" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "line"), [("/x/bin/medtl", True), ("/x/script.py", False)])
def test_an_interrupt_before_anything_can_catch_it_is_one_line(name: str, line: bool) -> None:
    code = f"import sys; sys.argv[0] = {name!r}\nimport medtl\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode in (-signal.SIGINT, 130)
    assert (done.stderr == "error: interrupted\n") == line
    assert ("Traceback" in done.stderr) != line
