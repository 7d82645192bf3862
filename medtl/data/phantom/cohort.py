"""Phantom cohorts on disk, and the built-in ones in the user's cache.

Light to import; numpy and what writes images are loaded when something is rendered.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from medtl.data.phantom.kept import placed, written_once
from medtl.errors import ConfigError, DataError, near_or_known
from medtl.runtime.cache import cache_dir
from medtl.runtime.files import read_regular
from medtl.runtime.parallel import in_threads

INDEX = "phantom.json"


BRATS, KAGGLE, LGG = "brats", "kaggle-mri", "lgg-mri"


Progress = Callable[[int, int], None]


#: folder, cases, seed; see :class:`medtl.data.task.Task`
WriteOwn = Callable[[Path, int, int], None]


#: Patients of a task's own cohort where no data are given.
OWN_CASES = 40


@dataclass(frozen=True, slots=True)
class Settings:
    """``cases``: patients (of kaggle-mri pictures); ``size``: voxels along each edge of 180 mm."""

    cases: int
    size: int
    sites: int
    seed: int
    shift: float = 1.0


#: Layout -> the cohort that is used where no data are given.
DEFAULTS = {
    BRATS: Settings(cases=100, size=48, sites=3, seed=0),
    KAGGLE: Settings(cases=200, size=48, sites=3, seed=0),
    LGG: Settings(cases=40, size=64, sites=5, seed=0),
}


_WRITERS = {
    BRATS: "medtl.data.phantom.brats_layout",
    KAGGLE: "medtl.data.phantom.kaggle_layout",
    LGG: "medtl.data.phantom.lgg_layout",
}


class Writer(Protocol):
    """A module that writes one layout."""

    VERSION: int  #: raised whenever the files of a given seed change

    def jobs(self, folder: Path, settings: Settings) -> list[Callable[[], None]]:
        """Calls that write a case each, in any order and several at once."""
        ...

    def index(self, settings: Settings) -> dict[str, Any]:
        """What ``phantom.json`` says beside the settings: sites at least."""
        ...


def write_phantom(
    root: Path,
    *,
    cases: int,
    size: int,
    sites: int,
    seed: int,
    shift: float = 1.0,
    layout: str = BRATS,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Write a cohort and return ``root``. Layouts: that of BraTS 2021 (``brats``), class folders of
    pictures as on Kaggle (``kaggle-mri``), TCGA slices with masks (``lgg-mri``).

    Each case is rendered from a cube of ``size`` voxels over 180 mm. ``shift`` scales how much the
    scanners of the ``sites`` differ (0: not at all) and leaves anatomy and noise as they are. The
    files depend on (layout, seed, case number, size, sites, shift) alone, so a small cohort is a
    prefix of a larger one. ``root/phantom.json`` says that the data are synthetic and holds sites.
    ``progress(done, total)`` is called from the caller's thread.

    Raises ConfigError for impossible numbers, and DataError where ``root`` is a file, holds
    something already or cannot be written. Nothing is left behind then.
    """
    settings = Settings(cases, size, sites, seed, shift)
    _writer(layout)
    _check(settings, layout)
    with placed(Path(root)) as partial:
        _fill(partial, layout, settings, progress, workers)
    return Path(root)


def _fill(
    folder: Path,
    layout: str,
    settings: Settings,
    progress: Progress | None,
    workers: int | None = None,
) -> None:
    writer = _writer(layout)
    _run(writer.jobs(folder, settings), progress, workers)
    _write_index(folder, _facts(writer, settings))


def write_own(root: Path, write: WriteOwn, cases: int, seed: int) -> Path:
    """A cohort by a task's own writer, ``Task.write_phantom``, in a folder that says it is
    synthetic. DataError as for :func:`write_phantom`."""
    with placed(root) as partial:
        _fill_own(partial, write, cases, seed)
    return root


def _fill_own(folder: Path, write: WriteOwn, cases: int, seed: int) -> None:
    write(folder, cases, seed)
    if not (folder / INDEX).is_file():
        _write_index(folder, {"cases": cases, "seed": seed})


def own_phantom(task: str, write: WriteOwn) -> Path:
    """Folder of a task's own cohort, written again whenever the code beside the writer
    has changed."""
    root = cache_dir() / f"phantom-{task}-n{OWN_CASES}-{_version_of(write)}"
    return written_once(root, lambda folder: _fill_own(folder, write, OWN_CASES, seed=0))


def default_phantom(progress: Progress | None = None, layout: str = BRATS) -> Path:
    """Folder of the built-in cohort, written once under ``MEDTL_CACHE`` or the user's cache, and
    again where a file of it is damaged or gone."""
    name = "phantom" if layout == BRATS else f"phantom-{layout}"
    return _kept(name, layout, DEFAULTS[layout], progress)


def kept_phantom(settings: Settings, layout: str, name: str) -> Path:
    """Folder of a cohort with these settings under ``MEDTL_CACHE`` or the user's cache.

    Raises:
        ConfigError: the settings are impossible.
    """
    _check(settings, layout)
    return _kept(f"phantom-{name}-{layout}", layout, settings, None)


def _kept(name: str, layout: str, own: Settings, progress: Progress | None) -> Path:
    """A cohort that is written once, and again where a file of it is damaged or gone."""
    version = _writer(layout).VERSION
    root = cache_dir() / f"{name}-v{version}-n{own.cases}-s{own.size}-k{own.sites}-i{own.seed}"
    return written_once(root, lambda folder: _fill(folder, layout, own, progress))


def _version_of(write: WriteOwn) -> str:
    """Changes with any of the Python files beside the one that defines ``write``; of what no file
    defines (a notebook), with its code."""
    digest = hashlib.blake2b(digest_size=6)
    try:
        source = Path(inspect.getfile(write))
    except TypeError:
        source = Path()
    if source.is_file():
        for path in sorted(source.parent.glob("*.py")):
            digest.update(path.read_bytes())
    elif code := getattr(write, "__code__", None):
        digest.update(code.co_code + repr((code.co_names, code.co_consts)).encode())
    else:
        digest.update(secrets.token_bytes(8))
    return digest.hexdigest()


def notes_of(synthetic: bool) -> list[str]:
    """Notes for a synthetic data set; none for others."""
    return ["synthetic phantom: generated images, no patients"] if synthetic else []


#: An index of the largest phantom is smaller.
MOST_INDEX_BYTES = 10_000_000


def read_index(root: Path) -> dict[str, Any]:
    """What ``phantom.json`` of a data set says; empty where there is none. DataError if damaged."""
    path = root / INDEX
    if not path.is_file():
        return {}
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_regular(path, MOST_INDEX_BYTES))
        if isinstance(content, dict) and isinstance(content.get("sites", {}), dict):
            return content
    raise DataError(f"{path}: cannot be read; write the phantom anew")


def _writer(layout: str) -> Writer:
    if layout not in _WRITERS:
        raise ConfigError(f"there is no phantom {layout!r}; {near_or_known(layout, _WRITERS)}")
    return cast(Writer, import_module(_WRITERS[layout]))


def _check(settings: Settings, layout: str) -> None:
    for name, low, high in (
        ("cases", 1, 9999),
        ("size", 16, 512),
        ("sites", 1, 5 if layout == LGG else 99),
        ("seed", 0, 2**63),
        ("shift", 0.0, 3.0),
    ):
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ConfigError(f"phantom {name} {value}: must lie between {low} and {high}")


def _run(jobs: list[Callable[[], None]], progress: Progress | None, workers: int | None) -> None:
    # Threads, not processes: numpy and zlib let go of the interpreter, and no script needs a
    # __main__ guard for its data to appear.
    def advance(done: int, note: str = "") -> None:
        if progress is not None:
            progress(done, len(jobs))

    in_threads(lambda job: job(), jobs, advance, threads=workers or 8)


def _facts(writer: Writer, settings: Settings) -> dict[str, Any]:
    return {
        "version": writer.VERSION,
        "cases": settings.cases,
        "size": settings.size,
        "seed": settings.seed,
        "shift": settings.shift,
        **writer.index(settings),
    }


def _write_index(folder: Path, facts: Mapping[str, Any]) -> None:
    index = {"synthetic": True, "name": "synthetic phantom", **facts}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8", newline="")
