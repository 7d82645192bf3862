"""Text files from outside: bounded, regular, in UTF-8 or with a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from medtl.errors import DataError
from medtl.runtime.files import read_regular

#: A table or list of a million cases is smaller.
MOST_BYTES = 512_000_000

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read, or is in another encoding; says how to save it.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 text (byte 0x{content[error.start]:02x}); save it "
            "as UTF-8, in a spreadsheet as 'CSV UTF-8', or by iconv -f WINDOWS-1252 -t UTF-8"
        ) from error
