"""Damage to files of weights: safetensors, torch's zip files, pickles."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from random import Random

from damage.accidents import damaged, rezipped, specially
from damage.texts import json_text


def safetensors(content: bytes, random: Random, canary: str) -> bytes:
    """The header, or the metadata in it, changed; its length goes along, mostly."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if random.random() < 0.6 and "medtl" in header.get("__metadata__", {}):
        inner = json_text(json.loads(header["__metadata__"]["medtl"]), random, canary)
        header["__metadata__"]["medtl"] = inner.decode("utf-8", "replace")
        text = json.dumps(header).encode()
    elif random.random() < 0.3:
        name = random.choice([name for name in header if name != "__metadata__"])
        header[name] |= random.choice(
            (
                {"shape": [2**40, 2**40]},
                {"shape": [-1]},
                {"shape": [0]},
                {"dtype": "F4"},
                {"dtype": "F8_E4M3"},
                {"data_offsets": [0, 2**62]},
                {"data_offsets": [4, 0]},
                {"dtype": "F64"},
            )
        )
        text = json.dumps(header).encode()
    else:
        text = json_text(header, random, canary)
    length = random.choice((len(text),) * 9 + (0, 2**40, 2**64 - 1, len(text) + 1))
    return struct.pack("<Q", length) + text + content[8 + size :]


def weights_file(folder: Path, random: Random, canary: Path) -> str:
    path = folder / random.choice(
        ("own.safetensors", "own.safetensors", "plain.pth", "wrapped.pth", "old.pth")
    )
    given = folder / f"given{path.suffix}"
    path.rename(given)
    if what := specially(given, random, canary, 0.05):
        return what
    content, act = given.read_bytes(), random.random()
    what = f"{path.name}: bytes"
    if act < 0.3:
        content = damaged(content, random)
    elif path.suffix == ".safetensors":
        content, what = safetensors(content, random, str(canary)), f"{path.name}: header"
    elif path.name == "old.pth":
        number = random.randrange(16)
        content, what = hostile_pickles(canary)[number], f"{path.name}: pickle {number}"
    else:
        content, what = zip_weights(content, random, canary)
        what = f"{path.name}: {what}"
    given.write_bytes(content)
    return what


def zip_weights(content: bytes, random: Random, canary: Path) -> tuple[bytes, str]:
    """An entry's name or content changed: the pickle's, a tensor's, the version's."""
    act, number = (
        random.choice(("pickle", "pickle bytes", "name", "entry", "bomb", "gone")),
        random.randrange(16),
    )
    chosen = random.randrange(6)
    seen = [0]

    def change(name: str, body: bytes) -> tuple[str, bytes]:
        mine = name.endswith("data.pkl")
        seen[0] += 1
        if act == "pickle" and mine:
            body = hostile_pickles(canary)[number]
        elif act == "pickle bytes" and mine:
            body = damaged(body, random)
        elif seen[0] == chosen:
            if act == "name":
                name = random.choice(
                    (
                        "../../canary/new",
                        f"{canary}/new",
                        "data.pkl",
                        name.upper(),
                        "x" * 3000,
                        name + "\x1b[31m",
                    )
                )
            elif act == "entry":
                body = damaged(body, random)
            elif act == "bomb":
                body = bytes(2 * 10**8)
            elif act == "gone":
                name = "elsewhere/data.txt"
        return name, body

    return rezipped(content, random, change), f"{act} {number if act == 'pickle' else chosen}"


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def hostile_pickles(canary: Path) -> list[bytes]:
    """Pickles that run a program, hold themselves, nest, grow or lie about their size."""
    loop: list[object] = []
    loop.append(loop)
    itself: dict[str, object] = {}
    itself["state_dict"] = itself
    return [
        pickle.dumps(Touch(canary / "executed"), 2),
        pickle.dumps({"state_dict": Touch(canary / "executed")}, 2),
        pickle.dumps(loop, 2),
        pickle.dumps(itself, 2),
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02}" + b"2" * 30 + b".",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x02]q\x00" + b"h\x00a" * 50_000 + b".",
        b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02ctorch\nload\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02cbuiltins\nexec\n(X\x04\x00\x00\x00passtR.",
        pickle.dumps({f"w{n}": n for n in range(100_000)}, 2),
        pickle.dumps("text", 2),
        pickle.dumps(None, 2),
    ]
