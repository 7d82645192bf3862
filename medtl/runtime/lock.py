"""One process at a time works on a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from medtl.errors import RunError

LOCK = ".lock"


try:
    import fcntl
except ImportError:  # Windows, whose locks are always exclusive
    _msvcrt = import_module("msvcrt")

    def _take(file: int, *, shared: bool) -> None:
        """Lock the open file, or raise BlockingIOError where another process holds it."""
        os.lseek(file, 0, os.SEEK_SET)
        try:
            _msvcrt.locking(file, _msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        if shared:
            _msvcrt.locking(file, _msvcrt.LK_UNLCK, 1)
else:

    def _take(file: int, *, shared: bool) -> None:
        """Lock the open file, or raise BlockingIOError where another process holds it."""
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


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
            removed = _removed(run / LOCK)  # first, so that nobody takes what is about to go
            os.close(held)
            if not removed:  # Windows removes no open file, and so none that another holds
                _removed(run / LOCK)


def refuse_held(run: Path) -> None:
    """Raise RunError, before any work, if another process holds the run folder."""
    try:
        file = os.open(run / LOCK, os.O_RDWR)
    except OSError:
        return  # nobody does
    try:
        # Shared, so that the processes that are about to go on with it do not refuse each other.
        _take(file, shared=True)
    except BlockingIOError:
        raise _in_use(run) from None
    except OSError:
        return
    finally:
        os.close(file)


def _held(path: Path) -> int | None:
    """The open, locked file; None where it cannot be locked."""
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError:
            return None  # a folder that cannot be written is refused where it matters
        try:
            _take(file, shared=False)
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


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _in_use(run: Path) -> RunError:
    return RunError(f"{run}: another process is working on this run; wait for it or stop it first")
