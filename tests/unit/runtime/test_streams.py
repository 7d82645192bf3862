"""Streams that are closed or full, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTLED = "import sys; from medtl.runtime.streams import settle_streams; settle_streams(); "


def in_shell(code: str, redirected: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -c "$0" {redirected}'
    return subprocess.run(
        ["sh", "-c", command, SETTLED + code], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_full_stderr_does_not_change_the_exit_code(tmp_path: Path) -> None:
    done = in_shell(
        "print('lost', file=sys.stderr); print('kept'); sys.exit(2)", "2>/dev/full", tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "kept\n", "")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else a library's message on stderr would land in the file."""
    code = "import os; file = open('own', 'w'); os.write(2, b'message'); print(file.fileno() > 2)"
    done = in_shell(code, "2>&- <&-", tmp_path)
    assert (done.stdout, (tmp_path / "own").read_text()) == ("True\n", "")


def test_a_message_on_a_closed_stderr_does_not_come_out_on_stdout(tmp_path: Path) -> None:
    done = in_shell("print('note', file=sys.stderr); print('result')", "2>&-", tmp_path)
    assert done.stdout == "result\n"


def test_nothing_fails_where_stdout_is_closed(tmp_path: Path) -> None:
    done = in_shell("print('lost'); print('told', file=sys.stderr)", ">&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "told\n")
