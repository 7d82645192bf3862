"""Damage to JSON, YAML and tables, drawn from a seeded generator."""

from __future__ import annotations

import csv
import io
import json
from random import Random
from typing import Any

from damage.accidents import MOST, damaged

#: Stands for JSON that Python's own writer would refuse: lists within lists.
DEEP = "@deep@"


#: Stands for the folder that nothing may touch.
CANARY = "@canary@"


TEXTS = (
    *(
        "",
        " ",
        "\x00",
        ".",
        "..",
        "-",
        "~root",
        "CON",
        "a\nb",
        "a\tb",
        "\u202ea",
        "\ud800",
        "e\u0301",
    ),
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x.org\x07x\x1b]8;;\x07", "\x9b31m"),
    *("[/x]", "[red]", "[link=http://x.org]x[/link]", "$x_1", "$\\frac{$", "%s%n", "{0}", "{x!r}"),
    *(
        "../../canary/keep.txt",
        "../../canary/new",
        f"{CANARY}/keep.txt",
        f"{CANARY}/new",
        "/dev/zero",
    ),
    *("=1+1", "nan", "None", "0x10", "1e999", "9" * 5000, "a" * 5000, "a/b", "--help", "true", "²"),
    *(
        "!!python/object/apply:os.system ['touch x']",
        "<script>alert(1)</script>",
        "x" * 255 + ".nii.gz",
    ),
)


NUMBERS = (0, -1, 1, 2, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308)


VALUES: tuple[Any, ...] = (
    *TEXTS,
    *NUMBERS,
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        None,
        True,
        False,
        [],
        {},
        [[]],
        [None],
        {"": None},
    ),
    *({"a": {"b": 1}}, ["a", "a"], [1] * 1000, [0, -1, 2**40], DEEP),
)


def json_text(value: Any, random: Random, canary: str) -> bytes:
    """``value`` with one to three changes, as JSON; now and then the text itself is damaged."""
    if random.random() < 0.15:
        return damaged(json.dumps(value, indent=1).encode(), random)
    for _ in range(random.choice((1, 1, 2, 3))):
        value = changed(value, random)
    text = json.dumps(value, indent=random.choice((None, 1)))
    if random.random() < 0.05:  # one key twice
        text = text.replace(",", ', "x": 1, "x": 2,', 1)
    depth = random.choice((200, 2_000, 100_000))
    text = text.replace(f'"{DEEP}"', "[" * depth + "]" * depth).replace(CANARY, canary)
    return text.encode()


def changed(value: Any, random: Random) -> Any:
    """A deep copy of what JSON can say, with one node changed, removed, renamed or doubled."""
    places = [*_places(value)]
    if not places:
        return random.choice(VALUES)
    value = json.loads(json.dumps(value))
    *way, last = random.choice(places)
    inner = value
    for key in way:
        inner = inner[key]
    act = random.random()
    if act < 0.6:
        inner[last] = random.choice(VALUES)
    elif act < 0.75:
        del inner[last]
    elif act < 0.9 and isinstance(inner, dict):
        inner[random.choice(TEXTS)] = inner.pop(last)
    elif isinstance(inner, list):
        inner.insert(0, inner[last])
    else:
        inner[last] = random.choice(([inner[last]], {"x": inner[last]}, str(inner[last])))
    return value


def _places(value: Any, way: tuple[Any, ...] = ()) -> Any:
    """The ways to every node but the root; long lists by their first elements."""
    if isinstance(value, dict):
        inner: Any = value.items()
    else:
        inner = enumerate(value[:MOST]) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*way, key)
        yield from _places(child, (*way, key))


#: YAML that means more than it looks.
SNIPPETS = (
    *(
        "!!python/object/apply:os.system ['touch {canary}/executed']",
        "!!python/name:os.system",
        "!!binary =====",
    ),
    *(
        "2020-99-99",
        "2001-12-14 21:59:43 -99:99",
        "0b_",
        "0x_",
        "9" * 5000,
        "1e400",
        "190:20:30",
        ".inf",
        ".nan",
    ),
    *(
        "[" * 3000,
        "{a: " * 1500,
        "- " * 1500,
        "&a [*a]",
        "*nobody",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "? [a, b]",
    ),
    *(
        '"\\ud800"',
        '"\\0"',
        '"\\e[31m"',
        "'[/x]'",
        "null",
        "~",
        "[]",
        "{}",
        "[null]",
        "{a: 1}",
        "- 1",
        "|\n  x",
        "yes",
    ),
    *(
        "-1",
        "0",
        "1e308",
        str(2**64),
        "../../canary/new",
        "{canary}/new",
        "/dev/zero",
        "''",
        "\t1",
        "a: b: c",
        "%",
        "@a",
    ),
)


def yaml_text(text: str, keys: list[str], random: Random, canary: str) -> bytes:
    """A file of settings with one to three lines changed, doubled or added."""
    lines = text.splitlines()
    for _ in range(random.choice((1, 1, 2, 3))):
        value = random.choice(SNIPPETS).replace("{canary}", canary)
        at, act = random.randrange(len(lines)), random.random()
        if act < 0.45:
            lines[at] = f"{lines[at].partition(':')[0]}: {value}"
        elif act < 0.85:
            lines.append(f"{random.choice(keys)}: {value}")
        else:
            lines.insert(
                at,
                random.choice(
                    (lines[at], value, "---", "...", "%YAML 9.9", "<<: {a: 1}", "\ufeff", BOMB)
                ),
            )
    content = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    content = content.decode("utf-8", "replace").encode(
        random.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig"))
    )
    return damaged(content, random) if random.random() < 0.15 else content


#: Nine levels of nine aliases each.
BOMB = "\n".join(
    [
        f"l0: &l0 [{'x,' * 8}x]",
        *(f"l{n}: &l{n} [{f'*l{n - 1},' * 8}*l{n - 1}]" for n in range(1, 9)),
    ]
)


def table_text(rows: list[list[str]], random: Random, canary: str) -> bytes:
    """A table with cells, columns or rows changed, in some encoding, with some delimiter."""
    rows = [[*row] for row in rows]
    for _ in range(random.choice((1, 1, 2, 4))):
        row, column = random.randrange(len(rows)), random.randrange(max(1, len(rows[0])))
        act, text = random.random(), random.choice(TEXTS).replace(CANARY, canary)
        if act < 0.5 and column < len(rows[row]):
            rows[row][column] = text
        elif act < 0.65:
            header = random.choice(
                (text, "patient", "Fold", "part", "site", "label", "case", "split")
            )
            for each in rows:
                each.append(random.choice(TEXTS) if each is not rows[0] else header)
        elif act < 0.75:
            rows.insert(row, [*rows[row]])
        elif act < 0.85:
            del rows[row][column:]
        else:
            rows[row] = rows[row] * random.choice((2, 500))
    made = io.StringIO()
    style = {
        "delimiter": random.choice(",,,;\t|"),
        "quoting": random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    }
    csv.writer(made, **style, lineterminator=random.choice(("\n", "\r\n", "\r"))).writerows(rows)
    encoding = random.choice(
        ("utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32", "cp500")
    )
    content = made.getvalue().encode(encoding, "replace")
    return damaged(content, random) if random.random() < 0.2 else content
