"""An SQLite file of short texts by key. Lost, locked or damaged, it costs time and no result."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

#: Seconds to wait for another process that is writing to the index.
BUSY_TIMEOUT_S = 5.0

#: Characters of a stored text; longer ones are not stored, and not read.
MOST_CHARACTERS = 1_000_000

#: What SQLite writes beside its file.
_BESIDE = ("", "-journal", "-wal", "-shm")

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

#: Files that this process has given up, and lines that it has said.
_given_up: set[Path] = set()
_said: set[str] = set()


def say_once(text: str) -> None:
    """A ``warning:`` line on stderr, once in a process: the cache is used where no Reporter is."""
    if text not in _said:
        _said.add(text)
        print(f"warning: {text}", file=sys.stderr, flush=True)


def recall(path: Path, key: str) -> str | None:
    """The text stored under ``key``; None if there is none that is as it was written."""

    def read(index: sqlite3.Connection) -> str | None:
        if not index.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return None
        found = index.execute(
            "SELECT value FROM facts WHERE key = ? AND length(value) <= ?", (key, MOST_CHARACTERS)
        ).fetchone()
        return None if found is None else _checked(path, key, found[0])

    return _attempt(path, read) if os.path.lexists(path) else None


def store(path: Path, key: str, text: str) -> None:
    """Keep a text under ``key`` with its hash, if ``path`` can be written."""

    def write(index: sqlite3.Connection) -> None:
        # Waiting for the disk costs more than recomputing most facts after a power cut.
        index.execute("PRAGMA synchronous = OFF")
        index.execute("CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT)")
        row = (key, f"{_hash(key, text)} {text}")
        index.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", row)

    if len(text) < MOST_CHARACTERS - 100:
        with suppress(OSError):  # a folder that cannot be written
            path.parent.mkdir(parents=True, exist_ok=True)
            _attempt(path, write)


def _attempt(path: Path, use: Callable[[sqlite3.Connection], Result]) -> Result | None:
    """``use`` of the open index; None where that fails."""
    if path in _given_up:
        return None
    if not _plain(path):
        _give_up(path, f"{path} is not a plain file; facts about files are not kept")
        return None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        with closing(connection) as index, index:
            return use(index)
    except sqlite3.Error as problem:
        code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCKED:
            _give_up(path, f"another process holds {path}; this one goes on without it")
        elif code in _DAMAGED:
            say_once(f"{path} is damaged; the facts about files in it are made anew")
            for ending in _BESIDE:
                with suppress(OSError):
                    os.unlink(f"{path}{ending}")
    return None


def _plain(path: Path) -> bool:
    """Whether SQLite would open plain files alone: a pipe would let it wait for ever."""
    for ending in _BESIDE:
        try:
            mode = os.stat(f"{path}{ending}").st_mode
        except OSError as problem:
            if problem.errno == errno.ELOOP:
                return False
            continue  # SQLite makes it, or says what is wrong
        if not stat.S_ISREG(mode):
            return False
    return True


def _give_up(path: Path, why: str) -> None:
    _given_up.add(path)
    say_once(why)


def _checked(path: Path, key: str, stored: object) -> str | None:
    """The text of a row, without its hash; None if one does not fit the other."""
    digest, _, text = stored.partition(" ") if isinstance(stored, str) else ("", "", "")
    if digest != _hash(key, text):
        say_once(f"{path} holds damaged facts about files; they are made anew")
        return None
    return text


def _hash(key: str, text: str) -> str:
    content = f"{key} {text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).hexdigest()
