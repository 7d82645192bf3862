"""Parse YAML of somebody else: bounded in length, depth and what its aliases expand to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from medtl.errors import ConfigError

#: Bytes of a file, lists within lists, values after aliases are expanded, digits of a number.
MOST_YAML, DEEPEST, MOST_VALUES, MOST_DIGITS = 1_000_000, 16, 20_000, 100

#: Characters of one value.
MOST_TEXT = 20_000

#: Characters of a name that a message repeats.
MOST_LETTERS = 80

#: What PyYAML raises for dates, numbers and keys that are none.
_NO_VALUE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)


class _TooLargeError(Exception):
    """Text that no configuration needs."""


def parse_yaml(text: str, where: str) -> Any:
    """The value of a text in YAML.

    Raises:
        ConfigError: it is none, or larger than any configuration; begins with ``where``.
    """
    import yaml

    try:
        _check_size(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{where[:MOST_LETTERS]}: not YAML{line} ({problem})") from error
    except _TooLargeError as error:
        raise ConfigError(f"{where[:MOST_LETTERS]}: {error}; shorten it") from error
    except _NO_VALUE as error:
        reason = str(error).partition(";")[0][:MOST_LETTERS]
        raise ConfigError(
            f"{where[:MOST_LETTERS]}: holds a value that is none ({reason}); put text in quotes"
        ) from error


def _check_size(text: str) -> None:
    """Count what a text holds without building it. Raises _TooLargeError beyond the limits."""
    import yaml

    sizes: dict[str, int] = {}  # of each anchor's value, aliases expanded
    open_values: list[tuple[str | None, int]] = []  # anchor, and the total where it began
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:  # unknown, or the value that it stands in
                name = str(event.anchor)[:MOST_LETTERS]
                raise _TooLargeError(f"alias *{name} names no value that is whole")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, began = open_values.pop()
            if anchor:
                sizes[anchor] = total - began
        if len(open_values) > DEEPEST:
            raise _TooLargeError("lists or mappings are nested too deeply")
        if total > MOST_VALUES:
            raise _TooLargeError(f"holds more than {MOST_VALUES:,} values")


def check_values(value: Any) -> None:
    """Refuse text that no file can hold, and numbers of very many digits.

    Raises:
        ValueError: says what, in words.
    """
    pending, checked = [value], 0
    while pending:
        one = pending.pop()
        checked += 1
        if checked > MOST_VALUES:
            raise ValueError(f"holds more than {MOST_VALUES:,} values")
        if isinstance(one, PurePath):
            one = str(one)
        if isinstance(one, str):
            if len(one) > MOST_TEXT:
                raise ValueError(f"a text has {MOST_TEXT:,} characters at most; shorten it")
            if "\0" in one:
                raise ValueError("holds a NUL character; delete it")
            if any("\ud800" <= letter <= "\udfff" for letter in one):
                raise ValueError("holds a character that is not in UTF-8; rename or retype it")
        elif isinstance(one, int) and abs(one) >= 10**MOST_DIGITS:
            raise ValueError(f"a whole number has {MOST_DIGITS} digits at most")
        elif isinstance(one, Mapping):
            pending += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            pending += one
