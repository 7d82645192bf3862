"""Folders of images: links are followed, and nothing that looks like an image vanishes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medtl.errors import DataError, shortened
from medtl.runtime.files import open_regular

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_NO_IMAGES = frozenset(
    (".md", ".txt", ".json", ".csv", ".tsv", ".xls", ".xlsx", ".pdf", ".html", ".xml", ".yaml",
     ".yml", ".py", ".sh", ".log", ".doc", ".docx", ".bval", ".bvec", ".mat", ".npy", ".npz")
)  # fmt: skip

#: Files of a folder that are looked into for DICOM.
_LOOKED_AT = 20


@dataclass(slots=True)
class Held:
    """What a folder holds, by name, sorted; hidden names are left out."""

    path: Path
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def held_in(folder: Path) -> Held:
    """The files and folders of one folder, those that links lead to included.

    Raises:
        DataError: a link that leads nowhere or in a circle, or an image that is no regular file.
    """
    held, lost = Held(folder), []
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        path = folder / name
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{folder}: the name {name!a} is not UTF-8; rename it")
        try:
            mode = path.stat().st_mode
        except OSError:
            if path.is_symlink() and may_be_image(name):
                lost.append(f"{name} -> {os.readlink(path)}")
            continue
        if stat.S_ISDIR(mode):
            held.folders.append(name)
        elif stat.S_ISREG(mode):
            held.files.append(name)
        elif may_be_image(name):
            raise DataError(f"{path}: is a pipe, a socket or a device, not a file; remove it")
    if lost:
        count = f"{len(lost)} link{'s' if len(lost) > 1 else ''}"
        raise DataError(
            f"{folder}: {count} to nowhere ({shortened(lost)}); fetch the files (git annex get, or "
            "mount their disk), or remove the links"
        )
    return held


def walk(root: Path, skip: dict[str, tuple[str, ...]] | None = None) -> Iterator[Held]:
    """Every folder below ``root``, itself included, parents first, sorted by path.

    Args:
        skip: file -> subfolders that are not entered where it lies beside them.

    Raises:
        DataError: as :func:`held_in`, and for a folder that is reached twice, as by a link in a
            circle.
    """
    reached: dict[tuple[int, int], Path] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        facts = folder.stat()
        other = reached.setdefault((facts.st_dev, facts.st_ino), folder)
        if other != folder and facts.st_ino:
            raise DataError(f"{folder}: a link leads to {other} once more; remove the link")
        held = held_in(folder)
        for marker, names in (skip or {}).items():
            if marker in held.files:
                held.folders = [name for name in held.folders if name not in names]
        waiting += [folder / name for name in reversed(held.folders)]
        yield held


def may_be_image(name: str) -> bool:
    """Whether what bears this name, and cannot be looked into, may be an image or a folder."""
    return os.path.splitext(name)[1].lower() not in _NO_IMAGES


def dicom_advice(root: Path) -> str:
    """What to do with DICOM below a folder; "" where none is found among its first files."""
    looked = 0
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            if is_dicom(Path(folder) / name):
                return (
                    f"{name} is DICOM: convert each series to NIfTI first, by medtl data convert "
                    "or dcm2niix"
                )
            looked += 1
            if looked == _LOOKED_AT:
                return ""
    return ""


def is_dicom(path: Path) -> bool:
    """By its suffix, else by the mark at byte 128."""
    if path.suffix.lower() in DICOM_SUFFIXES or path.name == "DICOMDIR":
        return True
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
