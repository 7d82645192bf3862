"""The run folder: all that is needed to read, repeat and report a run."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medtl.errors import RunError, nearest
from medtl.runtime.files import file_name, real_path, replacing, unwritable
from medtl.runtime.leftovers import is_leftover, sweep

RUNS = Path("runs")


CONFIG, SPLITS, SUMMARY = "config.yaml", "splits.json", "summary.json"


ENVIRONMENT, RECEIPTS, STAGES = "environment.json", "receipt.json", "stages.json"


INPUTS = "inputs.json"


#: What a run holds before its first step, in the order of writing; the last one makes it a run.
STARTED = (ENVIRONMENT, SPLITS, STAGES, INPUTS, CONFIG)


_RECORDED = ("medtl", "torch", "monai", "lightning-fabric", "numpy", "scipy", "nibabel", "itk")


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder. Every write is atomic; nothing is written outside ``path``."""

    path: Path

    def stage(self, name: str) -> Path:
        folder = self.path / name
        if not folder.is_dir():
            self.check_there()
            folder.mkdir(exist_ok=True)
        return folder

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def check_there(self) -> None:
        """Raise RunError if the folder was removed or renamed while this process works on it."""
        if not self.has(CONFIG):
            raise RunError(
                f"{self.path} is gone, or its {CONFIG} is: it was removed or renamed meanwhile; "
                "put it back"
            )

    def check_links(self) -> None:
        """Refuse links that lead out of the folder, as medtl would write where they lead to.

        Raises:
            RunError: names the link.
        """
        own = real_path(self.path)
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink() and not real_path(path).is_relative_to(own):
                    raise RunError(
                        f"{path} is a link that leads out of the run; put what it leads to in its "
                        "place"
                    )

    def write_json(self, name: str, value: Any) -> Path:
        return write_text(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        from medtl.runtime.records import read_json  # pydantic is slow to import

        return read_json(self.path / name)


def check_out(out: Path | None) -> None:
    """Refuse, before any work, a run folder that is in use or could not be made."""
    if out is not None and (out / CONFIG).is_file():
        raise RunError(
            f"{out} is a run already; choose another --out, or go on with it by --resume {out}"
        )
    check_writable(out or RUNS)
    if out is None:
        sweep(RUNS)
        return
    sweep(out.parent)
    if out.exists() and not all(_is_of_a_start(path) for path in out.iterdir()):
        raise RunError(f"{out} exists and is not an empty folder; choose another --out")


def _is_of_a_start(path: Path) -> bool:
    """Whether it is something that a command has left that was killed before its first result."""
    if is_leftover(path):
        return True
    return path.name in (*STARTED, ".lock") and path.is_file() and not path.is_symlink()


def check_writable(folder: Path) -> None:
    """Refuse, before any work, a folder that could not be made or written to; creates nothing."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        what = "a file, not a folder" if there.is_file() else "not a folder"
        where = "" if there == folder else f"cannot write to {folder}: "
        raise RunError(f"{where}{there} is {what}; choose another --out")
    try:
        # Permissions are not enough: /proc allows root, and then refuses.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as problem:
        raise RunError(
            f"cannot write to {folder}: {there} does not allow it; choose another --out"
        ) from problem


def start_run(task: str, strategy: str, out: Path | None) -> Run:
    """Make the folder: ``out``, which must be new or empty, else ``runs/<task>-<strategy>-<n>``."""
    check_out(out)
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            folder = out
        else:
            named = "-".join(name.rpartition(":")[2] for name in (task, strategy))
            folder = _next_folder(file_name(named))
    except OSError as problem:
        raise RunError(
            f"cannot write to {problem.filename or out}: {problem.strerror}; choose another --out"
        ) from problem
    run = Run(folder)
    sweep(folder)
    run.write_json(ENVIRONMENT, environment())
    return run


def open_run(path: Path) -> Run:
    """An existing run folder, recognised by its settings."""
    if path.exists() and not (path / CONFIG).is_file() and (path.parent / CONFIG).is_file():
        raise RunError(f"{path} is a part of a run; did you mean {str(path.parent)!r}?")
    if path.is_file():
        raise RunError(f"{path} is a file; name the folder of a run, which medtl train wrote")
    if not path.is_dir():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside, str(path).removesuffix(path.name))
        raise RunError(f"{path}: no such run folder{near}")
    if not (path / CONFIG).is_file():
        if (path / ENVIRONMENT).is_file() and all(map(_is_of_a_start, path.iterdir())):
            raise RunError(
                f"{path} holds no settings yet, as it was stopped before training began; give the "
                "same command again"
            )
        raise RunError(
            f"{path} is not a run folder: it has no {CONFIG}; name a folder that medtl train wrote"
        )
    return Run(path)


def environment() -> dict[str, Any]:
    """Versions and machine, without names of users, hosts or folders."""
    versions = {}
    for name in _RECORDED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": versions,
    }


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON line (``metrics.jsonl``). Raises RunError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as problem:
        raise unwritable(path, problem) from problem


def _next_folder(stem: str) -> Path:
    RUNS.mkdir(exist_ok=True)
    for number in range(1, 100_000):
        folder = RUNS / f"{stem}-{number:02d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"{RUNS} is full; choose --out")
