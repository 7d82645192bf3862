"""Cohorts that appear whole in a folder, and those in the cache, which carry hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medtl.errors import DataError
from medtl.runtime.cache import content_of
from medtl.runtime.files import new_folder, read_regular
from medtl.runtime.index import say_once
from medtl.runtime.leftovers import sweep

#: The hashes of a cohort's files, and the bytes that they may take.
HASHES, MOST_BYTES = ".hashes.json", 10_000_000


@contextmanager
def placed(root: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``root`` in one rename, or goes."""
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root}: already holds something; choose a new or an empty folder")
        with new_folder(root) as partial:
            yield partial
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{root}: cannot be written ({reason}); choose another folder") from error


def written_once(root: Path, fill: Callable[[Path], None]) -> Path:
    """``root`` in the cache, filled unless each file in it is as it was written.

    Two processes may ask at once: each fills its own folder, and the first to finish wins.
    """
    if root.is_dir():
        if is_whole(root):
            return root
        say_once(f"{root} is damaged, or of another medtl; this synthetic cohort is made anew")
        shutil.rmtree(root, ignore_errors=True)
    sweep(root.parent)
    try:
        with placed(root) as partial:  # one rename, hashes included
            fill(partial)
            hashes = _hashes(partial)
            text = json.dumps({"files": hashes, "all": _hash_of(hashes)})
            (partial / HASHES).write_text(text, encoding="utf-8")
    except DataError as error:
        if not is_whole(root):  # else another process was faster
            raise DataError(f"{error}, or set MEDTL_CACHE to one that can be used") from error
    return root


def is_whole(root: Path) -> bool:
    """Whether each file that was written is there, as it was written, and no other.

    Hidden files do not count: some systems leave them in any folder.
    """
    try:
        listed = json.loads(read_regular(root / HASHES, MOST_BYTES))
        hashes = _hashes(root)
    except (OSError, ValueError, RecursionError):
        return False
    return bool(listed == {"files": hashes, "all": _hash_of(hashes)})


def _hashes(root: Path) -> dict[str, str]:
    paths = (p for p in sorted(root.rglob("*")) if not p.is_dir() and not p.name.startswith("."))
    return {path.relative_to(root).as_posix(): content_of(path) for path in paths}


def _hash_of(hashes: Mapping[str, str]) -> str:
    return hashlib.blake2b(repr(sorted(hashes.items())).encode(), digest_size=16).hexdigest()
