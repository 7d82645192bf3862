"""Phantom cohorts on disk, and the built-in one in the user's cache.

Light to import; numpy and nibabel are loaded when something is rendered.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from medtl.cache import cache_dir
from medtl.errors import ConfigError, DataError

#: Raise whenever the files of a given seed change; it is part of the cache folder's name.
PHANTOM_VERSION = 3
DEFAULT_CASES, DEFAULT_SIZE, DEFAULT_SITES, DEFAULT_SEED = 100, 48, 3, 0

Progress = Callable[[int, int], None]


def write_phantom(
    root: Path,
    *,
    cases: int,
    size: int,
    sites: int,
    seed: int,
    shift: float = 1.0,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Write a cohort in the layout of BraTS 2021 and return ``root``.

    Each case is a cube of ``size`` voxels over 180 mm. ``shift`` scales how much the scanners of
    the ``sites`` differ (0: not at all) and leaves anatomy and noise as they are. The files depend
    on (seed, case number, size, sites, shift) alone, so a small cohort is a prefix of a larger one.
    ``root/phantom.json`` says that the data are synthetic and holds the site of each case.
    ``progress(done, total)`` is called from the caller's thread.

    Raises ConfigError for impossible numbers, and DataError where ``root`` is a file, holds
    something already or cannot be written. Nothing is left behind then.
    """
    _check(cases=cases, size=size, sites=sites, seed=seed, shift=shift)
    root = Path(root)
    partial = root.parent / f".{root.name}.{secrets.token_hex(4)}.partial"
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root}: already holds something; choose a new or an empty folder")
        partial.mkdir(parents=True)
        try:
            _render_all(partial, cases, size, sites, seed, shift, progress, workers)
            _write_index(partial, cases, size, sites, seed, shift)
            if root.is_dir():
                root.rmdir()  # empty; not every system renames onto a folder
            partial.rename(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{root}: cannot be written ({reason}); choose another folder") from error
    return root


def default_phantom(progress: Progress | None = None) -> Path:
    """Folder of the built-in cohort, written once under ``MEDTL_CACHE`` or the user's cache.

    Two processes may ask at once: each writes its own folder, and the first to finish wins.
    """
    name = f"phantom-v{PHANTOM_VERSION}-n{DEFAULT_CASES}-s{DEFAULT_SIZE}"
    root = cache_dir() / f"{name}-k{DEFAULT_SITES}-i{DEFAULT_SEED}"
    if _is_complete(root):
        return root
    try:
        return write_phantom(
            root,
            cases=DEFAULT_CASES,
            size=DEFAULT_SIZE,
            sites=DEFAULT_SITES,
            seed=DEFAULT_SEED,
            progress=progress,
        )
    except DataError as error:
        if _is_complete(root):
            return root
        raise DataError(f"{error}, or set MEDTL_CACHE to one that can be used") from error


def _is_complete(root: Path) -> bool:
    # The folder appears by one rename, index included; only a cache cleaner can thin it out.
    return (root / "phantom.json").is_file()


def _check(*, cases: int, size: int, sites: int, seed: int, shift: float) -> None:
    for name, value, low, high in (
        ("cases", cases, 1, 9999),
        ("size", size, 16, 512),
        ("sites", sites, 1, 99),
        ("seed", seed, 0, 2**63),
        ("shift", shift, 0.0, 3.0),
    ):
        if not low <= value <= high:
            raise ConfigError(f"phantom {name} {value}: must lie between {low} and {high}")


def case_id(index: int) -> str:
    return f"Phantom_{index + 1:04d}"


def _render_all(
    folder: Path,
    cases: int,
    size: int,
    sites: int,
    seed: int,
    shift: float,
    progress: Progress | None,
    workers: int | None,
) -> None:
    from medtl.phantom.render import scanner_of, site_of, write_case

    scanners = [scanner_of(seed, site, shift) for site in range(sites)]
    # Threads, not processes: numpy and zlib let go of the interpreter, and no script needs a
    # __main__ guard for its data to appear.
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8))
    try:
        jobs = [
            pool.submit(
                write_case,
                folder / case_id(index),
                seed,
                index,
                size,
                scanners[site_of(seed, index, sites)],
            )
            for index in range(cases)
        ]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            if progress is not None:
                progress(done, cases)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_index(folder: Path, cases: int, size: int, sites: int, seed: int, shift: float) -> None:
    from medtl.phantom.render import site_of

    ids = [case_id(index) for index in range(cases)]
    index = {
        "synthetic": True,
        "name": "synthetic phantom",
        "version": PHANTOM_VERSION,
        "cases": cases,
        "size": size,
        "seed": seed,
        "shift": shift,
        "sites": {name: f"S{site_of(seed, i, sites) + 1}" for i, name in enumerate(ids)},
        "patients": {name: name for name in ids},
    }
    (folder / "phantom.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
