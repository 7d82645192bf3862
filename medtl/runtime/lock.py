"""One process at a time works on a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medtl.errors import RunError

LOCK = ".lock"


#: Seconds to wait for a process that is only looking whether the run is held.
TIMEOUT_S = 0.2


@contextmanager
def locked(run: Path, name: str = LOCK) -> Iterator[None]:
    """Hold the run folder. The system frees the lock when this process ends, however it ends.

    Nothing is held where the folder cannot be written or the system cannot lock files.

    Raises:
        RunError: another process holds it.
    """
    lock = _acquired(run, name)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                (run / name).unlink()  # before the release, so that no process locks a removed file
            lock.release()


@contextmanager
def locked_output(folder: Path, name: str = LOCK) -> Iterator[None]:
    """:func:`locked` for a folder that is made; it is removed again if nothing is written to it.

    Processes with other names of the lock work in it as well.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, name):
            yield
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


def refuse_held(run: Path) -> None:
    """Raise RunError, before any work, if another process holds the run folder."""
    if (run / LOCK).exists():
        lock = _acquired(run)
        if lock is not None:
            lock.release()


def _acquired(run: Path, name: str = LOCK) -> FileLock | None:
    """The lock, held by this process; None where files cannot be locked."""
    lock = FileLock(run / name, timeout=TIMEOUT_S, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{run}: another process is working in this folder; wait for it or stop it first"
        ) from None
    except OSError:
        return None
    return lock
