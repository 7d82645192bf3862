"""Atomic writing of files and folders, and file names that every system allows."""

from __future__ import annotations

import csv
import errno
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from medtl.errors import DataError, RunError

#: The temporary files of :func:`replacing`.
_TEMPORARY = re.compile(r"\..+\.\d+(\.\w+)?")

#: Windows opens a descriptor as text without it.
_BINARY = getattr(os, "O_BINARY", 0)


def from_home(path: str | os.PathLike[str]) -> Path:
    """``~/x`` below the user's home folder; unchanged if there is no such home."""
    return Path(os.path.expanduser(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; whatever else lies there never blocks.

    A named pipe would wait for a writer for ever, and a device may have no end.

    Raises:
        OSError: there is no file, it cannot be opened, or it is none, with a reason in words.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
            raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes. OSError as :func:`open_regular`."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        reason = f"it has more than {most / 1e6:g} MB"
        raise OSError(errno.EFBIG, reason, os.fspath(path))
    return content


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while writing."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it replaces ``path`` on success.

    Raises:
        RunError: the folder cannot be made or written; an existing ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def write_csv(
    path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]], end: str = "\r\n"
) -> None:
    """Write a table with a header atomically; cells of None are empty. ``end``: of each line.

    Text that a spreadsheet would compute, as it begins with ``=``, ``+``, ``-`` or ``@``, gets an
    apostrophe before it, which :func:`read_cell` takes away.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(map(_no_formula, columns))
        writer.writerows(map(_no_formula, row) for row in rows)


#: What spreadsheets take for a formula. Numbers, which may begin with a sign, are none.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def _no_formula(cell: object) -> object:
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def read_cell(text: str) -> str:
    """What :func:`write_csv` wrote as ``text``."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``folder`` to fill; on success it becomes ``folder``.

    It is removed if filling it fails.

    Raises:
        OSError: it cannot be made, ``folder`` is not empty, or it is the current folder, which
            cannot be replaced.
    """
    if folder.resolve() == Path.cwd():
        raise OSError(errno.EBUSY, "it is the current folder")
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.is_dir():
            folder.rmdir()  # empty; not every system renames onto a folder
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> RunError:
    """The error for a file that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "make room" if full else "check the folder"
    return RunError(f"{path}: cannot be written ({error.strerror or error}); {advice}")


_FORBIDDEN = re.compile(r'[<>:"/\\|?*%\x00-\x1f]|[. ]$')


#: Names of devices on Windows, with any suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$) *(?=\.|$)", re.IGNORECASE)


def file_name(text: str) -> str:
    """``text`` as the name of a file, or its beginning; different texts have different names.

    Characters and names that some system does not allow are escaped as in URLs: ``a:b`` becomes
    ``a%3Ab``, ``CON`` becomes ``%43ON``.
    """
    safe = _FORBIDDEN.sub(lambda match: _escaped(match[0]), text)
    return _escaped(safe[0]) + safe[1:] if _DEVICE.match(safe) else safe


def _escaped(character: str) -> str:
    return f"%{ord(character):02X}"


def check_apart(names: Iterable[str]) -> None:
    """Refuse names that differ only in letter case or in the encoding of an accent.

    Raises:
        DataError: two names would be one file on Windows and macOS.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            raise DataError(
                f"{first} and {name} would be one file on Windows and macOS; rename one of these "
                "cases"
            )
