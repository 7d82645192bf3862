"""Names that say a side of the body: mirrored images would then bear the wrong name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medtl.data.formats.parts import words_of

_SIDES = {"left", "right", "lh", "rh", "lt", "rt", "lhs", "rhs", "sin", "dex", "sinister", "dexter"}
_SIDES |= {"links", "rechts", "linke", "rechte", "linker", "rechter", "gauche", "droite", "droit"}
_SIDES |= {"izquierda", "derecha", "sinistra", "destra"}

#: ``leftkidney``, ``kidneyleft``
_JOINED = re.compile(r"(left|right)[a-z]{3,}|[a-z]{3,}(left|right)")
_OTHER_WORDS = {"bright", "cleft", "upright", "copyright", "leftover", "rightly", "eyebright"}

#: ``kidney_L``, ``R-lung``, ``KidneyL``, but not the vertebra ``L1``.
_LETTER = re.compile(
    r"(?<![^\W\d_])[LR](?![^\W_])|(?<=[a-z])[LR](?![^\W_])|(?<![^\W_])[lr](?![^\W_])"
)


def naming_sides(names: Sequence[str]) -> list[str]:
    """Those of the names of regions or classes that say left or right.

    A single letter counts beside other words, or where both letters are names.
    """
    letters = {name.strip().casefold() for name in names} >= {"l", "r"}
    return [name for name in names if _says_side(name, letters)]


def _says_side(name: str, letters: bool) -> bool:
    words = words_of(name)
    if _SIDES & set(words):
        return True
    if any(_JOINED.fullmatch(word) and word not in _OTHER_WORDS for word in words):
        return True
    return bool(_LETTER.search(name)) and (letters or len(name.strip()) > 1)
