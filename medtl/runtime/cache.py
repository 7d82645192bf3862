"""The user's cache folder, and small facts about files that are kept between runs.

The index holds no path, as paths often contain patients' names. Its keys are hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from medtl.runtime.files import from_home

#: Seconds to wait for another process that is writing to the index.
BUSY_TIMEOUT_S = 10.0


def cache_dir() -> Path:
    """``MEDTL_CACHE`` if it is set, else the user's cache folder; it may not exist yet."""
    chosen = os.environ.get("MEDTL_CACHE")
    if chosen:
        return from_home(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("medtl"))


def remembered(fact: str, path: Path, channel: int | None, compute: Callable[[], Any]) -> Any:
    """``compute()``, or its stored result for the same unchanged file; the value must be JSON.

    A file is unchanged if its path, size, modification time and channel are the same. Safe for
    threads and processes. Without a usable cache folder the value is computed.
    """
    key = _key(fact, path, channel)
    if key is None:
        return compute()
    known = _recall(key)
    if known is not None:
        return json.loads(known)
    value = compute()
    _store(key, json.dumps(value))
    return value


def _key(fact: str, path: Path, channel: int | None) -> str | None:
    try:
        path = path.resolve(strict=True)
        stat = path.stat()
    except OSError:
        return None  # compute() reports what is wrong with the file
    what = (fact, os.fspath(path), stat.st_size, stat.st_mtime_ns, channel)
    return hashlib.blake2b(
        repr(what).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def _recall(key: str) -> str | None:
    path = cache_dir() / "files.sqlite"
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as index:
            row = index.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def _store(key: str, value: str) -> None:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "files.sqlite", timeout=BUSY_TIMEOUT_S)
        with closing(connection) as index, index:
            # Waiting for the disk costs more than recomputing most facts after a power cut.
            index.execute("PRAGMA synchronous = OFF")
            index.execute("CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT)")
            index.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))
    except (OSError, sqlite3.Error):
        return  # a read-only or broken cache costs time, never a result
