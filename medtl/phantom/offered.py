"""The phantom that a plugin's task writes itself, in the user's cache.

Light to import; what the task needs is loaded when it writes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Protocol, runtime_checkable

from medtl.cache import cache_dir
from medtl.errors import DataError
from medtl.files import new_folder
from medtl.phantom.cohort import INDEX

CASES, SEED = 24, 0


@runtime_checkable
class OwnPhantom(Protocol):
    """A task that can be tried without data."""

    name: str

    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        """Write so many synthetic cases into an empty folder, as ``cases()`` of the task reads
        them; the files depend on these numbers alone."""
        ...


def offered_phantom(task: OwnPhantom) -> Path:
    """Folder of the task's phantom, written once for each state of the plugin's code.

    ``phantom.json`` in it says that the data are synthetic. Raises DataError where the cache cannot
    be written.
    """
    root = cache_dir() / f"phantom-{task.name}-{_code_of(task)}-n{CASES}-i{SEED}"
    if (root / INDEX).is_file():
        return root
    try:
        with new_folder(root) as partial:
            task.write_phantom(partial, CASES, SEED)
            index = {"synthetic": True, "name": "synthetic phantom", "cases": CASES, "seed": SEED}
            (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        if (root / INDEX).is_file():  # another process was faster
            return root
        reason = error.strerror or str(error)
        raise DataError(f"{root}: cannot be written ({reason}); set MEDTL_CACHE") from error
    return root


def _code_of(task: OwnPhantom) -> str:
    """Changes with the package of the task, so that an edited writer never meets its old files."""
    source = inspect.getsourcefile(type(task))
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(Path(source).parent.rglob("*.py")) if source else ():
        digest.update(path.read_bytes())
    return digest.hexdigest()
