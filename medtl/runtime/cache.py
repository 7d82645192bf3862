"""The user's cache folder, and small facts about files that are kept between runs.

A fact belongs to the content of a file, whatever its path and times. The index holds no path, as
paths often contain patients' names. Its keys are hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from medtl import __version__
from medtl.runtime import index
from medtl.runtime.files import from_home, open_regular

#: Raised whenever keys mean something else than before.
_KEYS = 2

#: Bytes from which the hash of a file is kept between runs; a smaller one is read again as fast.
LARGE = 1 << 20

#: A file may change again within one tick of its file system's clock: two seconds on FAT.
SETTLED_NS = 2_000_000_000

_CHUNK = 1 << 20

#: File systems that report another time as that of change.
_WITHOUT_CHANGES = ("vfat", "msdos", "exfat", "cifs", "smb", "9p", "squashfs", "iso9660", "fuse")


class State(NamedTuple):
    """What the file system says of a file. No program can set the time of change back."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  #: on Windows the time of creation

    @classmethod
    def of(cls, stat: os.stat_result) -> State:
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @property
    def settled(self) -> bool:
        """Whether a later change would show in the state."""
        return max(self.changed_ns, self.modified_ns) < time.time_ns() - SETTLED_NS


#: Hashes of the files that this process has read.
_known: dict[State, str] = {}


def cache_dir() -> Path:
    """``MEDTL_CACHE`` if it is set, else the user's cache folder; it may not exist yet."""
    chosen = os.environ.get("MEDTL_CACHE")
    if chosen:
        return from_home(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("medtl"))


def remembered(fact: str, path: Path, channel: int | None, compute: Callable[[], Any]) -> Any:
    """``compute()``, or its stored result for a file of the same content; the value must be JSON.

    The fact must follow from the bytes of the file and the channel alone, not from its name. Safe
    for threads and processes. Without a usable cache folder the value is computed.
    """
    return remembered_of(fact, [(path, channel)], compute)


def remembered_of(
    fact: str, files: Sequence[tuple[Path, int | None]], compute: Callable[[], Any]
) -> Any:
    """As :func:`remembered`, of several files and their channels together, in this order."""
    try:
        contents = [content_of(path) for path, _ in files]
    except OSError:
        return compute()  # which says what is wrong with the file
    pairs = list(zip(contents, files, strict=True))
    parts = [(content, path.suffix.lower(), channel) for content, (path, channel) in pairs]
    key = key_of(fact, *(part for own in parts for part in own))
    return _kept(
        key, compute, lambda: all(_is_still(path, content) for content, (path, _) in pairs)
    )


def remembered_result(fact: str, of: str, compute: Callable[[], Any]) -> Any:
    """``compute()``, or its stored result; the value must be JSON and follow from ``of`` alone."""
    return _kept(key_of(fact, of), compute, lambda: True)


def _kept(key: str, compute: Callable[[], Any], holds: Callable[[], bool]) -> Any:
    """What is stored under ``key``, or the computed value, stored if it ``holds`` afterwards."""
    kept = _index()
    known = index.recall(kept, key)
    if known is not None:
        return json.loads(known)
    value = compute()
    if holds():
        index.store(kept, key, json.dumps(value))
    return value


def content_of(path: Path) -> str:
    """A hash of the bytes of a file.

    A process reads a file again when its state (device, inode, size, times of modification and of
    change) is another, and a later process a small file in any case. The system alone sets times of
    change, so a file that is replaced and given its old time is read again.

    Raises:
        OSError: it cannot be read.
    """
    known = _known.get(State.of(os.stat(path)))
    if known is not None:
        return known
    with open_regular(path) as file:
        state = State.of(os.fstat(file.fileno()))
        settled = state.settled
        kept = settled and state.size >= LARGE and tells_changes(state.device)
        key = key_of("content", os.path.realpath(path), *state[1:])
        content = index.recall(_index(), key) if kept else None
        if content is None:
            digest = hashlib.blake2b(digest_size=16)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            content = digest.hexdigest()
            if not settled or State.of(os.fstat(file.fileno())) != state:
                return content
            if kept:
                index.store(_index(), key, content)
    _known[state] = content
    return content


def tells_changes(device: int) -> bool:
    """Whether the file system of a device keeps a time of change that no program can set."""
    if os.name == "nt":
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    return not _mounted().get(number, "").startswith(_WITHOUT_CHANGES)


@cache
def _mounted() -> dict[str, str]:
    """Number of each mounted device -> its file system; empty where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    words = [(line.split(), line.partition(" - ")[2].split()) for line in lines]
    return {left[2]: right[0] for left, right in words if len(left) > 2 and right}


def _is_still(path: Path, content: str) -> bool:
    try:
        return content_of(path) == content
    except OSError:
        return False


def _index() -> Path:
    return cache_dir() / "files.sqlite"


def key_of(*parts: object) -> str:
    """A name for what follows from ``parts``, which are plain values, and from this version."""
    text = repr((_KEYS, __version__, *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
