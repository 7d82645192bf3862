"""DICOM files below a folder, by their content: any name, any depth, also in zip archives."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from medtl.data.formats.folders import DICOM_SUFFIXES, is_dicom, walk
from medtl.data.io.limits import MOST_DEFLATED
from medtl.errors import DataError
from medtl.runtime.files import open_regular

_NIFTI = (".nii", ".nii.gz")

#: Files of a folder that are looked at to tell what it holds.
_LOOKED_AT = 50

#: Such a folder holds NIfTI: nnU-Net, MSD, BIDS, whose sources may lie beside them.
_DESCRIBED = ("dataset.json", "dataset_description.json")

_MARK = b"DICM"

_ZIP = b"PK\x03\x04"

#: A member of an archive may unpack to this many bytes.
MOST_BYTES = 2 << 30

#: The first group of a data set, and value representations that can follow.
_FIRST = (b"\x02\x00", b"\x08\x00")
_REPRESENTATIONS = (b"UL", b"UI", b"CS", b"OB", b"SH", b"DA", b"LO", b"AE")


@dataclass(frozen=True, slots=True, order=True)
class DicomFile:
    """A file on disk, or the ``member`` of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return Path(self.member or self.path).name

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield its bytes. Raises OSError, or DataError for an archive that cannot be unpacked."""
        if not self.member:
            with open_regular(self.path) as file:
                yield file
            return
        with _archive(self.path) as archive:
            yield io.BytesIO(_unpacked(archive, archive.getinfo(self.member), self.path))

    def size(self) -> int:
        """Its length in bytes."""
        if not self.member:
            return self.path.stat().st_size
        with _archive(self.path) as archive:
            return archive.getinfo(self.member).file_size


def find_files(root: Path) -> tuple[list[DicomFile], list[str]]:
    """The DICOM files of a folder or an archive, sorted; an index (DICOMDIR) is none.

    Returns:
        the files, and of archives in a folder that cannot be unpacked what is wrong.

    Raises:
        DataError: as :func:`medtl.data.formats.folders.walk`, and if ``root`` is such an archive.
    """
    if root.is_file():
        return sorted(_within(root)), []
    found: list[DicomFile] = []
    damaged = []
    for held in walk(root):
        for name in held.files:
            try:
                found += list(_within(held.path / name))
            except DataError as error:
                damaged.append(str(error))
    return sorted(found), damaged


def looks_like_dicom(root: Path) -> bool:
    """Whether a file, or the first files of a folder, are DICOM or archives, and none is NIfTI.

    A folder that a description says to hold something else is none.
    """
    if root.is_file():
        return any(True for _ in _within(root))
    if any((root / name).is_file() for name in _DESCRIBED):
        return False
    seen = 0
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(_NIFTI):
                return False
            path = Path(folder, name)
            if is_dicom(path) or (name.lower().endswith(".zip") and _holds_some(path)):
                return True
            seen += 1
            if seen == _LOOKED_AT:
                return False
    return False


def _holds_some(path: Path) -> bool:
    """Whether an archive holds DICOM; one that cannot be opened may hold anything else."""
    try:
        return any(True for _ in _within(path))
    except DataError:
        return False


def _within(path: Path) -> Iterator[DicomFile]:
    """The file itself if it is DICOM, or the members of an archive that are."""
    if path.name.upper() == "DICOMDIR":
        return
    try:
        with open_regular(path) as file:
            start = file.read(132)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if start.startswith(_ZIP) and path.suffix.lower() == ".zip":
        with _archive(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and _is_dicom_member(archive, member, path):
                    yield DicomFile(path, member.filename)
    elif _is_dicom(start, path.name):
        yield DicomFile(path)


def _is_dicom_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bool:
    name = Path(member.filename).name
    if name.upper() == "DICOMDIR" or name.startswith("."):
        return False
    _check_member(member, path)
    with archive.open(member) as file:
        return _is_dicom(file.read(132), name)


def _is_dicom(start: bytes, name: str) -> bool:
    """By its mark or its name; without either by how data sets begin."""
    suffix = Path(name).suffix.lower()
    if start[128:132] == _MARK or suffix in DICOM_SUFFIXES:
        return True
    return (
        not suffix
        and start[:2] in _FIRST
        and (start[4:6] in _REPRESENTATIONS or start[6:8] == b"\x00\x00")
    )


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        status = path.stat()
        yield _opened_archive(path, status.st_size, status.st_mtime_ns)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged archive ({error}); fetch it again") from error


def close_archives() -> None:
    """Close those that stayed open."""
    _opened_archive.cache_clear()


@lru_cache(maxsize=4)
def _opened_archive(path: Path, _size: int, _changed_ns: int) -> zipfile.ZipFile:
    """The archive, which stays open: its list of members is read once, not for each of them."""
    file = open_regular(path)
    try:
        return zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    """Refuse what would fill the memory, and what needs a password."""
    if member.flag_bits & 1:
        raise DataError(f"{path}: needs a password; unpack it first")
    if member.file_size > min(MOST_BYTES, MOST_DEFLATED * max(1, member.compress_size)):
        raise DataError(f"{path}: {member.filename} unpacks to {member.file_size} bytes; unpack it")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    _check_member(member, path)
    with archive.open(member) as file:
        return file.read(member.file_size)
