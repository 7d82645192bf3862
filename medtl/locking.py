"""One process at a time works on a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medtl.errors import RunError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder; the system frees it when this process ends, however it does.

    Where the system cannot lock files, nothing is held.

    Raises:
        RunError: another process holds it.
    """
    held = _held(run / LOCK)
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                (run / LOCK).unlink()  # first, so that nobody takes what is about to go
            os.close(held)


def refuse_held(run: Path) -> None:
    """Raise RunError, before any work, if another process holds the run folder."""
    if sys.platform == "win32":
        return
    try:
        file = os.open(run / LOCK, os.O_RDONLY)
    except OSError:
        return  # nobody does
    try:
        # Shared, so that the processes that are about to go on with it do not refuse each other.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(run) from None
    except OSError:
        return
    finally:
        os.close(file)


def _held(path: Path) -> int | None:
    """The open, locked file; None where it cannot be locked."""
    if sys.platform == "win32":
        return None
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError:
            return None  # a folder that cannot be written is refused where it matters
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError:
            os.close(file)
            raise _in_use(path.parent) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(file)
            return None
        os.close(file)  # its holder was just removing it: once more


def _in_use(run: Path) -> RunError:
    return RunError(f"{run}: another process is working on this run; wait for it or stop it first")
