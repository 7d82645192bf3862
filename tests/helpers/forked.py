"""Programs in a process of their own without the seconds that imports take.

A server imports what commands import, starts no thread, and forks a child for each program, or
several that find each other as torchrun's do. A child ends as any process does: by the end of the
interpreter, or by a signal.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Seconds that the other processes have to end when one has failed; torchrun kills them, too.
GRACE_S = 3.0
#: Seconds until a program that does not end is killed.
LIMIT_S = 300.0


@dataclass
class Forked:
    """A program that runs in one process or several."""

    server: Server
    words: list[str]
    pids: list[int]
    streams: tempfile.TemporaryDirectory[str]

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end, and kill what takes too long: the exit code of the process that failed
        first, and what all have printed, in their order."""
        late = threading.Timer(LIMIT_S, self.kill)
        late.start()
        code = int(self.server.read())
        late.cancel()
        numbers, folder = range(len(self.pids)), Path(self.streams.name)
        out, err = (
            "".join((folder / f"{name}{n}").read_text() for n in numbers) for name in ("out", "err")
        )
        self.streams.cleanup()
        self.server.running = None
        return subprocess.CompletedProcess([sys.executable, *self.words], code, out, err)

    def kill(self) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Server:
    """This process's end of the pipe."""

    def __init__(self) -> None:
        self.running: Forked | None = None
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.process.communicate)

    def start(
        self, words: list[str], environment: Mapping[str, str], folder: str, processes: int = 1
    ) -> Forked:
        """Start ``python WORDS``; ``-m MODULE`` or a script. One program at a time: one that a
        failed test has left is killed."""
        assert self.process.stdin is not None
        if self.running is not None:
            self.running.kill()
            self.running.ended()
        streams = tempfile.TemporaryDirectory()
        request = {
            "words": words,
            "environments": [{**environment, **ranks} for ranks in _ranks(processes)],
            "folder": folder,
            "streams": streams.name,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        self.running = Forked(self, words, json.loads(self.read()), streams)
        return self.running

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def _ranks(processes: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes; nothing to one that runs alone."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "OMP_NUM_THREADS": "1",
    }
    return [{**shared, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(processes)]


@cache
def server() -> Server:
    """Of this process, started at the first use."""
    return Server()


def serve() -> dict[str, Any]:
    """Fork children for each request and say their numbers, then the exit code; returns in the
    children alone."""
    for line in sys.stdin:
        request, children = json.loads(line), []
        for number, environment in enumerate(request["environments"]):
            child = os.fork()
            if child == 0:
                return {**request, "environment": environment, "number": number}
            children.append(child)
        print(json.dumps(children), flush=True)
        print(wait(children), flush=True)
    sys.exit()


def wait(children: list[int]) -> int:
    """The exit code of the child that failed first; the others are killed after a while."""
    left, first = set(children), 0
    while left:
        child, status = os.waitpid(-1, 0)
        left.discard(child)
        first = first or os.waitstatus_to_exitcode(status)
        if first and left:
            late = time.monotonic() + GRACE_S
            while left and time.monotonic() < late:
                child, _ = os.waitpid(-1, os.WNOHANG)
                left.discard(child)
                time.sleep(0.02)
            for child in left:
                os.kill(child, signal.SIGKILL)
    return first


def become(request: dict[str, Any]) -> None:
    """Be the process of the program: its streams, folder, environment and arguments."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        path = os.path.join(request["streams"], f"{name}{request['number']}")
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
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
