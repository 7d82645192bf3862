"""Run the command line many times without its imports: a server that forks a child for each.

    python -P benchmarks/damage/server.py    # a JSON request per line of stdin, a reply per line

A request names ``words``, ``folder`` (the child's), ``stdout``, ``stderr``, ``environment``,
``writable`` (folders), ``noted`` (a file), ``limit_s`` and ``limit_mb``. The child ends as a
process of its own does: by the end of the interpreter. A hook of Python's audit notes each file
opened for writing elsewhere, and each program or pickled function called.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events of the audit -> which of their arguments are paths that change, and the folders that these
#: are seen from, if that is said.
CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir"), ((0, 1),)),
    **dict.fromkeys(("os.truncate", "os.chmod"), ((0, None),)),
    **dict.fromkeys(("os.link", "shutil.copyfile", "shutil.copytree"), ((1, None),)),
    "os.mkdir": ((0, 2),),
    "os.utime": ((0, 3),),
    "os.rename": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
}
CALLS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pickle.find_class",
)
#: What Python and its libraries call on their own: questions about the machine.
HARMLESS = ("lscpu", "uname", "nvidia-smi", "ldconfig", "file", "fc-list")
#: Seconds between two looks at a child.
LOOK_S = 0.02


class Server:
    """The other end of the pipe."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_DISABLE_FAST_MM": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", HERE],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **request: Any) -> dict[str, Any]:
        """What became of one command, see :func:`watched`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def close(self) -> None:
        self.process.communicate()


def load() -> None:
    """Import what commands import, but start no thread."""
    import medtl
    from medtl.plugins.catalog import load_catalog

    for name in (
        "torch",
        "monai.transforms",
        "monai.networks.nets",
        "monai.inferers",
        "matplotlib.pyplot",
        "rich.progress",
    ):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(medtl.__path__, "medtl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    load_catalog().commands  # noqa: B018
    gc.collect()
    gc.freeze()  # a child's collector would copy every page
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        sys.exit(f"{threads} threads after the imports: a forked child could hang")


def child(request: dict[str, Any]) -> None:
    """Become the process of one command."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # of the parent
    sys.argv = ["medtl", *request["words"]]
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.addaudithook(Watch(request["writable"], request["noted"]))


class Watch:
    """Notes what a command should not do, in a file that is open already."""

    def __init__(self, writable: list[str], notes: str) -> None:
        self.writable = tuple(os.path.realpath(folder) for folder in writable)
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def __call__(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = values
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & WRITING
            # A folder is opened for a file without a name.
            if writes and not isinstance(path, int) and not os.path.isdir(path):
                self.check(event, path)
        elif event in CHANGES:
            for number, folder in CHANGES[event]:
                self.check(event, values[number], -1 if folder is None else values[folder])
        elif event in CALLS and not str(values[0]).rpartition("/")[2].startswith(HARMLESS):
            self.note(f"called {event} {values[:2]!r}")

    def check(self, event: str, path: Any, folder: int = -1) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            path = (
                path if folder < 0 else os.path.join(f"/proc/self/fd/{folder}", os.fsdecode(path))
            )
            parent, name = os.path.split(os.fsdecode(path))
            where = os.path.join(os.path.realpath(parent), name)
            if not (where + os.sep).startswith(self.writable):
                self.note(f"{event} {where}")

    def note(self, text: str) -> None:
        os.write(
            self.notes, text.encode("utf-8", "backslashreplace").replace(b"\n", b" ")[:500] + b"\n"
        )


def watched(process: int, request: dict[str, Any]) -> dict[str, Any]:
    """Wait for the child; end it past its limits."""
    started, peak, stopped = time.monotonic(), 0, ""
    while True:
        ended, status, used = os.wait4(process, os.WNOHANG)
        if ended:
            break
        peak = max(peak, resident_mb(process))
        seconds = time.monotonic() - started
        if seconds > request["limit_s"] or peak > request["limit_mb"]:
            stopped = stopped or ("time" if seconds > request["limit_s"] else "memory")
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(process, signal.SIGKILL)
        time.sleep(LOOK_S)
    try:
        os.killpg(process, signal.SIGKILL)  # what it left running
        left = True
    except ProcessLookupError:
        left = False
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - started, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": max(peak, used.ru_maxrss // 1024),
        "stopped": stopped,
        "left_running": left,
    }


def resident_mb(process: int) -> int:
    try:
        return (
            int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            >> 20
        )
    except (OSError, IndexError):
        return 0


def serve() -> None:
    """Answer requests; returns in each child, which is to run its command."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that is printed here is a reply
    load()
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            child(request)
            return
        print(json.dumps(watched(process, request)), file=replies, flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve()
    from medtl.cli.start import main

    main()
