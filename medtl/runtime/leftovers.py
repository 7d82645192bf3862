"""What a killed process leaves: hidden files and folders, marked with the process that made them.

A name is ``.NAME.PID-MACHINE.part``, with the suffix of the file that it becomes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Whether the process of another machine lives cannot be asked; it is dead after this long.
OTHERS_S = 24 * 3600.0

_MARKED = re.compile(r"\..+\.(?P<pid>\d{1,10})-(?P<machine>[0-9a-f]{8})\.part(\.\w+)?")

#: Former names; such files are made within the folder of a run, which is locked.
_UNMARKED = re.compile(r"\..+\.\d+(\.\w+)?")

#: Names that safetensors writes to, in the folders of stages alone.
_OF_SAFETENSORS = re.compile(r"\.tmp\w{6}")

#: Characters of a name that its temporary file repeats.
LONGEST = 50

_in_use: set[Path] = set()


def hidden_name(name: str) -> str:
    """The name of a temporary file or folder of this process that becomes ``name``."""
    if len(name) > LONGEST:  # a name has 255 bytes at most
        name = f"{name[:LONGEST]}~{zlib.crc32(os.fsencode(name)):08x}"
    return f".{name}.{os.getpid()}-{_machine()}.part"


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Within it, ``path`` is not swept by this process."""
    own = path.absolute()
    _in_use.add(own)
    try:
        yield
    finally:
        _in_use.discard(own)


def sweep(folder: Path, *, deep: bool = False, unmarked: bool = False) -> None:
    """Remove what processes that were killed left in a folder; what cannot be removed stays.

    Args:
        deep: also in the folders below.
        unmarked: also files whose name does not say which process made them; of a locked run.
    """
    try:
        found = list(folder.rglob(".*") if deep else folder.glob(".*"))
    except OSError:
        return
    for path in found:
        if is_leftover(path) or (unmarked and _is_unmarked(path, folder) and path.is_file()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                _unlink(path)


def _is_unmarked(path: Path, run: Path) -> bool:
    of_stage = path.parent != run and _OF_SAFETENSORS.fullmatch(path.name)
    return bool(of_stage or _UNMARKED.fullmatch(path.name))


def is_leftover(path: Path) -> bool:
    """Whether the process that made a hidden file or folder has ended."""
    found = _MARKED.fullmatch(path.name)
    if found is None or path.absolute() in _in_use:
        return False
    if found["machine"] != _machine():
        try:
            return time.time() - path.lstat().st_mtime > OTHERS_S
        except OSError:
            return False
    process = int(found["pid"])
    return process == os.getpid() or not _lives(process)


def _lives(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
