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
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Seconds that the other processes have to end when one has failed; torchrun kills them, too.
GRACE_S = 3.0


@dataclass
class Forked:
    """A program that runs in one process or several."""

    server: Server
    words: list[str]
    pids: list[int]
    streams: tempfile.TemporaryDirectory[str]

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end: the worst exit code, and what the processes printed, in their order."""
        codes: list[int] = json.loads(self.server.read())
        out, err = (
            "".join(Path(self.streams.name, f"{name}{n}").read_text() for n in range(len(codes)))
            for name in ("out", "err")
        )
        self.streams.cleanup()
        code = next((code for code in codes if code), 0)
        return subprocess.CompletedProcess([sys.executable, *self.words], code, out, err)


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

    def start(
        self, words: list[str], environment: Mapping[str, str], folder: str, processes: int = 1
    ) -> Forked:
        """Start ``python WORDS``; ``-m MODULE`` or a script. One program at a time."""
        assert self.process.stdin is not None
        streams = tempfile.TemporaryDirectory()
        request = {
            "words": words,
            "environments": [
                {**environment, **ranks} for ranks in (_ranks(processes) if processes > 1 else [{}])
            ],
            "folder": folder,
            "streams": streams.name,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Forked(self, words, json.loads(self.read()), streams)

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def _ranks(processes: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
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
    """Fork children for each request and say their numbers, then their exit codes; returns in the
    children alone."""
    for line in sys.stdin:
        request, children = json.loads(line), []
        for number, environment in enumerate(request["environments"]):
            child = os.fork()
            if child == 0:
                return {**request, "environment": environment, "number": number}
            children.append(child)
        print(json.dumps(children), flush=True)
        print(json.dumps(wait(children)), flush=True)
    sys.exit()


def wait(children: list[int]) -> list[int]:
    """Their exit codes; when one has failed, the others are killed after a while."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        if any(codes.values()):
            late = time.monotonic() + GRACE_S
            while len(codes) < len(children) and time.monotonic() < late:
                child, status = os.waitpid(-1, os.WNOHANG)
                if child:
                    codes[child] = os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
        if len(codes) < len(children):
            child, status = os.waitpid(-1, 0)
            codes[child] = os.waitstatus_to_exitcode(status)
    return [codes[child] for child in children]


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
