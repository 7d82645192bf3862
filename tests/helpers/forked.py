"""Programs in a process of their own without the seconds that imports take.

A server imports what commands import, starts no thread, and forks a child for each program. The
child ends as any process does: by the end of the interpreter, or by a signal.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Server:
    """This process's end of the pipe."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.process.communicate)

    def run(
        self, words: list[str], environment: dict[str, str], folder: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python WORDS``; ``-m MODULE`` or a script."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            request = {"words": words, "environment": environment, "folder": folder}
            self.process.stdin.write(json.dumps({**request, "streams": streams}) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            out, err = (Path(streams, name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess([sys.executable, *words], code, out, err)


@cache
def server() -> Server:
    """Of this process, started at the first use."""
    return Server()


def serve() -> dict[str, Any]:
    """Fork a child per request and say its exit code; returns in the children alone."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return dict(json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Be the process of the program: its streams, folder, environment and arguments."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(os.path.join(request["streams"], name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # of the parent
    sys.path[0] = request["folder"]


def play(words: list[str]) -> None:
    """``python WORDS`` in this interpreter."""
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.append(str(BENCHMARKS))
    from damage.server import load

    load()
    sys.path.pop()
    asked = serve()
    become(asked)
    play(asked["words"])
