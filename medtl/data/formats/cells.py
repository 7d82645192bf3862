"""Cells as spreadsheets, R and pandas write them: what is missing, and spellings of one value."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medtl.errors import shortened

#: In any letter case.
_MISSING = frozenset(
    ("", "nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "none", "null", "(null)",
     "<null>", "nil", "nat", "-", "--", "---", "\u2013", "\u2014", ".", "?",
     "missing", "#value!", "\\n")
)  # fmt: skip

#: A whole number, as a column of floating-point numbers writes it.
_WHOLE = re.compile(r"([+-]?\d+)\.0*")

#: Between letters, a blank and these are one.
_JOINT = re.compile(r"(?<=[^\W\d_])[ _-](?=[^\W\d_])")


def is_missing(text: str) -> bool:
    return text.strip().casefold() in _MISSING


def stated(value: Any) -> str:
    """A value as text, "" where it is missing: None, NaN, ``NA``, ``null``, ``-`` and the like."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = " ".join(str(value).split())
    return "" if is_missing(text) else text


def spelling(value: str) -> str:
    """What values of one meaning share: letter case, blanks, and 0 for 0.0."""
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    return _WHOLE.sub(r"\1", text) if _WHOLE.fullmatch(text) else _JOINT.sub(" ", text)


def one_spelling(values: Sequence[str], what: str, notes: list[str]) -> list[str]:
    """The values in their commonest spelling; ``notes`` say which others were read as it."""
    counts = Counter(values)
    best: dict[str, str] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        best.setdefault(spelling(value), value)
    chosen = {value: best[spelling(value)] for value in counts}
    others = sorted(f"{value!r} as {own}" for value, own in chosen.items() if value != own)
    if others:
        notes.append(f"warning: {what} spelt in several ways, read as one: {shortened(others)}")
    return [chosen[value] for value in values]
