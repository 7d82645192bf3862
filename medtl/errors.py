"""What the user is shown: one line that names what is wrong, where, and what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_PLAIN = {
    "is not a valid path for <class 'pathlib.Path'>": "must be a path",
    "should": "must",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid list": "a list",
    "a valid tuple": "a list",
    "a valid dictionary": "a mapping such as {name: value}",
}


#: The most names that an error lists, and characters of a value that it repeats.
MOST_LISTED, MOST_SHOWN = 12, 120


#: Characters that a terminal or a reader obeys or hides: controls, directions, zero width, halves
#: of a character, and breaks of lines and paragraphs.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


#: Of no width either, though Unicode takes them for letters or marks.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, keep: str = "") -> str:
    """Text with escapes such as ``\\x1b`` for what a terminal obeys or a reader cannot see.

    Names of files, columns, classes and plugins come from others: whatever prints or draws text
    takes it from here. ``keep``: characters to leave, such as line breaks of text by medtl.
    """
    if text.isprintable() and _FILLERS.isdisjoint(text):
        return text
    return "".join(
        _escape(letter)
        if letter not in keep and (unicodedata.category(letter) in _UNSEEN or letter in _FILLERS)
        else letter
        for letter in text
    )


def _escape(letter: str) -> str:
    code = ord(letter)
    longer = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(letter) or (f"\\x{code:02x}" if code < 0x100 else longer)


class MedtlError(Exception):
    """A known failure. The command line prints its message as one line and exits with 2."""

    exit_code = 2

    def __str__(self) -> str:
        return visible(super().__str__(), keep="\n")


class ConfigError(MedtlError):
    """An option or a configuration file that cannot be used."""


class UnknownNameError(ConfigError):
    """A task, network, strategy or other component that nobody offers."""

    def __init__(self, kind: str, name: str, known: Iterable[str], more: str = "") -> None:
        """``more`` follows the hint."""
        hint = near_or_known(name.lower().replace("_", "-"), sorted(known))
        super().__init__(f"unknown {kind} {name!r}; {hint}{more}")


def shown(value: object) -> str:
    """``value`` as code, shortened; values from files may be longer than any line."""
    from reprlib import Repr

    short = Repr()
    short.maxstring = short.maxlong = short.maxother = 60
    short.maxlevel = 3
    try:
        text = short.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of very many digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def near_or_known(name: str, known: Iterable[str]) -> str:
    """``did you mean 'flair'?``, where one of the ``known`` names is near, else what is known."""
    names = list(known)
    near = nearest(name, names).removeprefix("; ")
    more = ", ..." if len(names) > MOST_LISTED else ""
    return near or f"known: {', '.join(names[:MOST_LISTED]) or 'none'}{more}"


def nearest(name: str, known: Iterable[str], before: str = "") -> str:
    """``; did you mean 'flair'?``, where one of the ``known`` names is near.

    ``before``: what stands before the name, such as a folder.
    """
    from difflib import get_close_matches

    in_lower_case = {other.lower(): other for other in known}
    near = get_close_matches(name.lower(), in_lower_case, n=1)
    return f"; did you mean {before + in_lower_case[near[0]]!r}?" if near else ""


def in_plain_words(complaint: str) -> str:
    """Pydantic's ``Input should be a valid integer, ...`` -> ``must be a whole number``."""
    wanted = complaint.removeprefix("Input ").removeprefix("Value ").partition(",")[0]
    for theirs, ours in _PLAIN.items():
        wanted = wanted.replace(theirs, ours)
    return wanted


class DataError(MedtlError):
    """A file or cohort that cannot be used; the message names the file."""


class TruncatedFileError(DataError):
    """A file that ends before its content does."""


class ImpossibleSpacingError(DataError):
    """A header whose voxels are larger or smaller than any scanner's.

    ``unit``: the unit of length that it names; "" for mm, or none.
    """

    def __init__(self, message: str, unit: str = "") -> None:
        super().__init__(message)
        self.unit = unit


class WeightsError(MedtlError):
    """Weights that cannot be read or do not fit."""


class RunError(MedtlError):
    """A run folder that cannot be written, read or continued."""


class DamagedRunError(RunError):
    """A file of a run that nothing can write again but the training from its start."""


class DivergedError(MedtlError):
    """A loss that is not finite."""


class Interrupted(MedtlError):
    """Training was asked to stop, and has kept what it needs to go on."""

    exit_code = 130


def shortened(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 7 more``."""
    shown = ", ".join(map(visible, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
