"""MR contrasts by name. Channels have names, not numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NewType

from medtl.errors import ConfigError

#: A canonical contrast name: lower case, BraTS 2013-2021 words where they exist.
Modality = NewType("Modality", str)


#: Spellings of public data sets (BraTS 2023+, MSD, DeepMedic) -> the canonical name.
ALIASES = {
    "t2f": "flair", "t2flair": "flair", "t2-flair": "flair", "fla": "flair",
    "t1n": "t1", "t1w": "t1", "t1-weighted": "t1",
    "t1c": "t1ce", "t1gd": "t1ce", "t1gad": "t1ce", "t1post": "t1ce", "t1-ce": "t1ce",
    "t2w": "t2", "t2-weighted": "t2",
}  # fmt: skip


#: The channels of a coloured picture, and the one channel of grey ones.
COLOURS, GREY = ("red", "green", "blue"), "image"


CANONICAL = ("flair", "t1", "t1ce", "t2")


#: The most similar contrasts, in order; they seed the channels of a new modality.
NEAREST = {"t1": ("t1ce",), "t1ce": ("t1",), "t2": ("flair",), "flair": ("t2",)}


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def are_colours(modalities: Iterable[str]) -> bool:
    """Whether these are the channels of a coloured picture, which are equal where it is grey."""
    return set(modalities) == set(COLOURS)


def parse_modality(text: str) -> Modality:
    """``"T2F"`` -> ``"flair"``; other names (``"ct"``) are lower-cased."""
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{text!r} is not a modality name; write for example flair,t1ce")
    return Modality(ALIASES.get(name, name))


def parse_modalities(text: str, separator: str = ",") -> tuple[Modality, ...]:
    """``"flair,t1ce"`` -> ``("flair", "t1ce")``, order kept; a repeated modality is an error."""
    names = tuple(parse_modality(part) for part in text.split(separator))
    if len(set(names)) < len(names):
        raise ConfigError(f"{text!r} names a modality twice")
    return names


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """``["t1=t1ce"]`` (the values of ``--map``) -> ``{"t1": "t1ce"}``: target from source."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        target, equals, source = pair.partition("=")
        if not equals:
            raise ConfigError(f"--map {pair!r}: write TARGET=SOURCE, for example t1=t1ce")
        name = parse_modality(target)
        if name in mapping:
            raise ConfigError(f"--map states {name} twice; keep one")
        mapping[name] = parse_modality(source)
    return mapping


def parse_series(texts: Iterable[str]) -> dict[str, str]:
    """``["flair=AX FLAIR*"]`` (the values of ``--series``) -> modality and its description."""
    named: dict[str, str] = {}
    for text in texts:
        modality, equals, description = text.partition("=")
        if not equals or not description:
            raise ConfigError(
                f"--series {text!r}: write MODALITY=DESCRIPTION, as flair='AX FLAIR*'"
            )
        name = parse_modality(modality)
        if name in named:
            raise ConfigError(f"--series names {name} twice; keep one")
        named[name] = description
    return named
