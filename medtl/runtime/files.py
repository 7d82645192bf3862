"""Atomic writing of files and folders, and file names that every system allows."""

from __future__ import annotations

import csv
import errno
import getpass
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from medtl.errors import DataError, RunError
from medtl.runtime import leftovers

#: Windows opens a descriptor as text without it.
_BINARY = getattr(os, "O_BINARY", 0)


#: Stands for the user's name in a path of a run.
USER = "$USER"


def from_home(path: str | os.PathLike[str]) -> Path:
    """``~/x`` below the user's home folder, ``/data/$USER/x`` with the user's name.

    Unchanged if there is no such home, and no such user.
    """
    parts = Path(os.path.expanduser(path)).parts
    if USER not in parts or not (name := _user()):
        return Path(*parts)
    return Path(*(name if part == USER else part for part in parts))


def real_path(path: str | os.PathLike[str]) -> Path:
    """The whole path with its links followed; of links in a circle, the path as it is.

    ``Path.resolve`` raises RuntimeError for these.
    """
    return Path(os.path.realpath(path))


def check_there(path: Path | None) -> None:
    """Raise DataError for a path that does not exist, before anything slow is imported."""
    if path is not None and not os.path.lexists(from_home(path)):
        raise DataError(f"{path}: no such file or folder")


def portable(path: Path) -> str:
    """The whole path without the user's name: what :func:`from_home` reads back."""
    whole, home = real_path(path), Path.home()
    for base in (home, real_path(home)):
        if base != Path(base.anchor) and whole.is_relative_to(base):
            whole = Path("~") / whole.relative_to(base)
            break
    user = _user()
    return str(Path(*(USER if part == user else part for part in whole.parts)))


def _user() -> str:
    """The user's name, if it says more than a system account's."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""
    return "" if name in ("root", "data", "user") else name


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


def _new_mode(path: Path) -> int:
    """The permissions that the umask gives a new file, by making ``path``."""
    with path.open("xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; it replaces ``path`` on success.

    The file has the permissions that the umask gives, whatever wrote it.

    Raises:
        RunError: the folder cannot be made or written; an existing ``path`` is unchanged.
    """
    temporary = path.with_name(leftovers.hidden_name(path.name) + path.suffix[:20])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with leftovers.in_use(temporary):
            try:
                mode = _new_mode(temporary)
                yield temporary
                temporary.chmod(mode)
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
    if real_path(folder) == Path.cwd():
        raise OSError(errno.EBUSY, "it is the current folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / leftovers.hidden_name(folder.name)
    shutil.rmtree(partial, ignore_errors=True)  # of a former process of this number
    with leftovers.in_use(partial):
        partial.mkdir()
        try:
            yield partial
            if folder.is_dir():
                folder.rmdir()  # empty; not every system renames onto a folder
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder within ``folder`` to fill; on success its content moves to ``folder``.

    So a command that is killed leaves nothing there that looks like a result.
    """
    partial = folder / leftovers.hidden_name("results")
    with leftovers.in_use(partial):
        partial.mkdir()
        try:
            yield partial
            for path in sorted(partial.iterdir()):
                path.rename(folder / path.name)
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
