"""Names that Linux, macOS and Windows can all hold, for what is called by its case."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from medtl.errors import DataError

_FORBIDDEN = re.compile(r'[<>:"/\\|?*%\x00-\x1f]|[. ]$')
#: Names of devices on Windows, whatever follows their first dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$) *(?=\.|$)", re.IGNORECASE)


def file_name(text: str) -> str:
    """``text`` as the name of a file, or its beginning; different texts have different names.

    What some system does not allow is written as in URLs: ``a:b`` as ``a%3Ab``, ``CON`` as
    ``%43ON``.
    """
    safe = _FORBIDDEN.sub(lambda found: _escaped(found[0]), text)
    return _escaped(safe[0]) + safe[1:] if _DEVICE.match(safe) else safe


def _escaped(character: str) -> str:
    return f"%{ord(character):02X}"


def check_apart(names: Iterable[str]) -> None:
    """Refuse names that would be one file where capitals, or ways to write an accent, are equal.

    Raises:
        DataError: names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            raise DataError(
                f"{first} and {name} would be one file on Windows and macOS; rename one of these "
                "cases"
            )
