"""Numbers and features as text, for tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Iterable

#: Descriptions of features, by family and name without the axis.
_FEATURES = {
    "scale/median": "median intensity",
    "scale/iqr": "interquartile range of intensity",
    "contrast/skewness": "skewness of the histogram",
    "contrast/kurtosis": "kurtosis of the histogram",
    "contrast/entropy": "evenness of the histogram",
    "contrast/peak": "peak of the histogram",
    "noise/level": "noise",
    "noise/gradient": "median gradient",
    "noise/edges": "strongest gradients",
    "noise/local": "local contrast",
    "resolution/pixels": "pixels of the longest edge",
    "resolution/spacing": "voxel size",
    "resolution/width": "width of details",
    "view/aspect": "rows over columns",
    "view/field": "field of view",
    "view/extent": "extent of the foreground",
    "view/offset": "offset of the foreground",
    "view/share": "share of the foreground",
    "view/orientation": "orientation of the stored axes",
}

_VOLUME = {"i": "left-right", "j": "back-front", "k": "foot-head"}

_PICTURE = {"i": "top-bottom", "j": "left-right"}

_PERCENTILES = {"scale": "intensity", "contrast": "the histogram"}


def feature_words(name: str, *, pictures: bool = False) -> str:
    """``"resolution/width_k"`` -> ``"width of details, foot-head"``; others are their own names."""
    family, _, rest = name.partition("/")
    if family in _PERCENTILES and rest[:1] == "p" and rest[1:].isdigit():
        nth = {1: "1st"}.get(int(rest[1:]), f"{int(rest[1:])}th")
        return f"{nth} percentile of {_PERCENTILES[family]}"
    stem, _, axis = name.rpartition("_")
    direction = (_PICTURE if pictures else _VOLUME).get(axis)
    if direction and stem in _FEATURES:
        return f"{_FEATURES[stem]}, {direction}"
    return _FEATURES.get(name, name)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def probability(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.0%}"  # no -0%


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}x"


def footnotes(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """``(row, note)`` -> one line per note with the rows it belongs to."""
    rows: dict[str, list[str]] = {}
    for row, note in notes:
        if note and row not in rows.setdefault(note, []):
            rows[note].append(row)
    return tuple(f"{', '.join(names)}: {note}" for note, names in rows.items())
