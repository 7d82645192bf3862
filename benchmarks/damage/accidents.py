"""Damage to bytes, header fields, zip files and files as such, drawn from a seeded generator.

Every function takes the ``Random`` that decides.
"""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

#: Values of a header's fields, by the letter of ``struct``.
INTEGERS = (0, 1, -1, 2, 3, 7, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**62, -(2**63))


FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-40,
    1e-9,
    1e9,
    3e38,
    -3e38,
    *(float(t) for t in ("nan", "inf", "-inf")),
)


#: An operation counted for each bit of a file's size would take too long.
MOST = 8


def damaged(content: bytes, random: Random) -> bytes:
    """The bytes after one to three small accidents."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = random.choice(ACCIDENTS)(content, random)
    return content


def flipped(content: bytes, random: Random) -> bytes:
    body = bytearray(content or b"\0")
    for _ in range(random.choice((1, 1, 2, MOST))):
        body[_place(body, random)] ^= 1 << random.randrange(8)
    return bytes(body)


def _place(body: bytes | bytearray, random: Random) -> int:
    """A position; every other one lies near the start, where headers are."""
    return random.randrange(min(len(body), random.choice((512, len(body)))))


def truncated(content: bytes, random: Random) -> bytes:
    return content[
        : random.choice(
            (0, 1, 7, len(content) // 2, len(content) - 1, random.randrange(len(content) + 1))
        )
    ]


def overwritten(content: bytes, random: Random) -> bytes:
    at, size = _place(content or b"\0", random), random.choice((1, 4, 16, 256))
    filler = random.choice((b"\0" * size, b"\xff" * size, random.randbytes(size)))
    return content[:at] + filler + content[at + size :]


def inserted(content: bytes, random: Random) -> bytes:
    at = _place(content or b"\0", random)
    return content[:at] + random.randbytes(random.choice((1, 3, 64))) + content[at:]


def repeated(content: bytes, random: Random) -> bytes:
    at, size = _place(content or b"\0", random), random.choice((8, 128, 4096))
    return content[: at + size] + content[at:]


def cut_out(content: bytes, random: Random) -> bytes:
    at = _place(content or b"\0", random)
    return content[:at] + content[at + random.choice((1, 8, 128)) :]


def padded(content: bytes, random: Random) -> bytes:
    return content + random.choice((b"\0", b"x", content[:64])) * random.choice((1, 64, 4096))


ACCIDENTS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(flipped, flipped, truncated, overwritten, inserted, repeated, cut_out, padded),
)


def field_set(
    content: bytes, fields: dict[str, tuple[int, str, int]], random: Random, order: str
) -> tuple[bytes, str]:
    """An extreme value in one element of one of ``fields``: (offset, letter, elements)."""
    name = random.choice([*fields])
    start, letter, count = fields[name]
    size, element = struct.calcsize(letter), random.randrange(count)
    bits = size * 8
    values = (
        FLOATS if letter in "fd" else [v for v in INTEGERS if -(1 << bits - 1) <= v < 1 << bits - 1]
    )
    value = random.choice(values)
    body = bytearray(content)
    if letter in "bBhHiIqQ":
        letter = letter.lower()
    struct.pack_into(order + letter, body, start + element * size, value)
    return bytes(body), f"{name}[{element}] = {value}"


def rezipped(
    content: bytes, random: Random, change: Callable[[str, bytes], tuple[str, bytes]]
) -> bytes:
    """A zip file with each entry's name and content as ``change`` returns them."""
    made = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", method) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return made.getvalue()


def gzipped(content: bytes, random: Random) -> bytes:
    """Compressed, now and then damaged afterwards: checksum, length, trailing bytes."""
    packed = gzip.compress(content, 1, mtime=0)
    act = random.random()
    if act < 0.8:
        return packed
    return random.choice(
        (
            packed[:-4] + b"\0\0\0\1",
            packed[:-8] + b"abcd" + packed[-4:],
            packed[:-8],
            packed + b"xx",
            packed * 2,
        )
    )


def replaced_by_special(path: Path, random: Random, canary: Path) -> str:
    """Put something that is no regular file in the file's place."""
    path.unlink()
    what = random.choice(
        (
            "fifo",
            "loop",
            "nowhere",
            "zero",
            "tty",
            "folder",
            "socket",
            "outside",
            "empty",
            "unreadable",
            "gone",
        )
    )
    targets = {
        "loop": path.name,
        "nowhere": "nowhere.bin",
        "zero": "/dev/zero",
        "tty": "/dev/tty",
        "outside": str(canary / "keep.txt"),
    }
    if what in targets:
        path.symlink_to(targets[what])
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            where = os.open(path.parent, os.O_RDONLY)
            made.bind(f"/proc/self/fd/{where}/{path.name}"[:107])
            os.close(where)
    elif what != "gone":
        path.touch(0o000 if what == "unreadable" else 0o644)
    return f"{path.name}: {what}"


def one_of(folder: Path, random: Random, *patterns: str) -> Path:
    return random.choice(
        sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})
    )


def specially(path: Path, random: Random, canary: Path, share: float = 0.08) -> str:
    """Now and then something else in the file's place; "" otherwise."""
    return replaced_by_special(path, random, canary) if random.random() < share else ""
