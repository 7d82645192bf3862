"""Names that say a side of the body: mirrored images would then bear the wrong name.

Axes: 0 to the right, 1 to the front, 2 up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from medtl.data.formats.parts import words_of

_SIDES = {"left", "right", "lh", "rh", "lt", "rt", "lhs", "rhs", "sin", "dex", "sinister", "dexter"}
_SIDES |= {"links", "rechts", "linke", "rechte", "linker", "rechter", "gauche", "droite", "droit"}
_SIDES |= {"izquierda", "derecha", "sinistra", "destra"}

#: Words of the opposite ends of the other axes; both must be among the names.
_ENDS = {
    1: (
        {"anterior", "front", "ventral", "vordere", "vorderer", "anterieur", "antérieur"},
        {"posterior", "rear", "dorsal", "hintere", "hinterer", "posterieur", "postérieur"},
    ),
    2: (
        {"superior", "upper", "cranial", "obere", "oberer", "supérieur"},
        {"inferior", "lower", "caudal", "untere", "unterer", "inférieur"},
    ),
}

#: What mirroring along each axis exchanges.
ENDS = ("left and right", "front and back", "top and bottom")

#: ``leftkidney``, ``kidneyleft``
_JOINED = re.compile(r"(left|right)[a-z]{3,}|[a-z]{3,}(left|right)")
_OTHER_WORDS = {"bright", "cleft", "upright", "copyright", "leftover", "rightly", "eyebright"}

#: ``kidney_L``, ``R-lung``, ``KidneyL``, but not the vertebra ``L1``.
_LETTER = re.compile(
    r"(?<![^\W\d_])[LR](?![^\W_])|(?<=[a-z])[LR](?![^\W_])|(?<![^\W_])[lr](?![^\W_])"
)


def sided_axes(names: Sequence[str]) -> dict[int, list[str]]:
    """The axes along which mirroring changes what the names say, and those names."""
    found = {0: naming_sides(names)}
    for axis, ends in _ENDS.items():
        own = [[name for name in names if end & set(words_of(name))] for end in ends]
        found[axis] = [*own[0], *own[1]] if all(own) else []
    return {axis: named for axis, named in found.items() if named}


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
