"""What is printed where there is no colour, no terminal, or no UTF-8; and what the codes mean."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from rich.console import Console
from terminal import Terminal

from medtl import api
from medtl.api.results import Explanation
from medtl.cli import errors as boundary
from medtl.errors import DataError, Interrupted
from medtl.runtime.console import Reporter
from medtl.runtime.signals import Stop
from medtl.runtime.table import Table

ESCAPE = "\x1b["
PAGE = ROOT / "docs" / "exit-codes.md"
#: What decides about colours; whatever the machine that tests says.
UNSET = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM", "GITHUB_ACTIONS", "PY_COLORS")


def environment(**more: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**bare, "COLUMNS": "100", **more}


def piped(*words: str, **more: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "medtl", *words],
        capture_output=True,
        env=environment(**more),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def on_terminal(*words: str, **more: str) -> str:
    """Both streams, as a terminal gets them."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "medtl", *words],
        stdout=theirs,
        stderr=theirs,
        env=environment(**more),
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    process.wait()
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("words", [("--help",), ("list",), ("train", "--help"), ("trian",)])
def test_no_escape_reaches_a_file(words: tuple[str, ...]) -> None:
    _, out, err = piped(*words, TERM="xterm-256color")
    assert ESCAPE.encode() not in out + err


def test_help_is_coloured_on_a_terminal_unless_asked_not_to_be() -> None:
    colour = re.compile(r"\x1b\[[\d;]*3\dm")
    assert colour.search(on_terminal("--help", TERM="xterm-256color"))
    assert not colour.search(on_terminal("--help", TERM="xterm-256color", NO_COLOR="1"))
    assert ESCAPE not in on_terminal("--help", TERM="dumb")
    assert ESCAPE.encode() in piped("--help", TERM="xterm-256color", FORCE_COLOR="1")[1]


@pytest.mark.parametrize(
    "words", [("--help",), ("train", "--help"), ("list",), ("plugins", "list")]
)
def test_everything_can_be_printed_in_ascii(words: tuple[str, ...]) -> None:
    code, out, err = piped(*words, PYTHONIOENCODING="ascii", TERM="xterm")
    assert (code, err) == (0, b"") and out.decode("ascii")


def test_names_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    code, _, err = piped("explain", str(tmp_path / "löwe"), PYTHONIOENCODING="ascii")
    assert code == 2 and rb"l\xf6we: no such run folder" in err


def told(**settings: object) -> tuple[Reporter, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=80, highlight=False, **settings)  # type: ignore[arg-type]
    return Reporter(console=console), file


def test_progress_is_plain_lines_where_only_colour_is_forced() -> None:
    reporter, file = told(force_terminal=True)
    with reporter.progress("scoring", 2) as advance:
        advance(2, "case b")
    assert file.getvalue().startswith("scoring: 2/2") and ESCAPE not in file.getvalue()


def test_tables_are_drawn_in_ascii_where_there_is_no_more() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, color_system=None, width=80)
    Reporter(results=console).show(Table("Scores", ("a", "b"), (("1", "2"),), ("note",)))
    file.flush()
    assert "Scores" in file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


def documented() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(code): meaning for code, meaning in rows}


def raising(error: BaseException, stop: Stop | None = None) -> int:
    def command() -> None:
        raise error

    return boundary.guarded(command, debug=False, stop=stop)


def test_every_exit_code_is_documented_and_no_other() -> None:
    stopped = {boundary.INTERRUPTED, boundary.TERMINATED}
    told = {0, boundary.BUG, boundary.USER_ERROR, boundary.SOME_FAILED, boundary.FOUND}
    assert set(documented()) == told | stopped
    assert boundary.guarded(lambda: None, debug=False) == 0
    assert raising(DataError("x")) == boundary.USER_ERROR == 2
    assert raising(ValueError("x")) == boundary.BUG == 1
    assert raising(Interrupted("x")) == raising(KeyboardInterrupt()) == boundary.INTERRUPTED == 130
    terminated = Stop(signal.SIGTERM)
    assert raising(KeyboardInterrupt(), terminated) == boundary.TERMINATED == 143


@pytest.mark.parametrize(
    ("words", "code"),
    [(("list",), 0), (("list", "nothing"), 2), (("train", "x"), 2), (("predict",), 2)],
)
def test_codes_are_as_documented(words: tuple[str, ...], code: int) -> None:
    found, out, err = piped(*words)
    assert found == code in documented()
    if code:
        assert out == b"" and err.startswith(b"error: ") and err.count(b"\n") == 1


@pytest.mark.parametrize("words", [("-q",), ("-q", "--json")])
def test_a_quiet_explain_still_warns(
    words: tuple[str, ...], medtl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Explanation(tmp_path, {"images": 1}, ("a note", "warning: an odd image"))
    monkeypatch.setattr(api, "explain", lambda *_, **__: found)
    out, err = medtl("explain", tmp_path, *words)
    assert err == "warning: an odd image\n"
    assert out == ('{\n  "images": 1\n}\n' if "--json" in words else "")
