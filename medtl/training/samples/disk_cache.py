"""Prepared cases kept on disk: a store that may be lost, full or damaged at any time.

What cannot be read is prepared anew, and what cannot be written is prepared again next time. An
entry is a safetensors file whose metadata hold a hash of its key and of every byte of the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os import fstat
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.utils.data import Dataset

from medtl.errors import RunError
from medtl.runtime.cache import State
from medtl.runtime.files import open_regular, replacing
from medtl.runtime.index import say_once
from medtl.runtime.memory import free_memory_bytes

Item = TypeVar("Item")


#: Tensors by name, or mappings of such.
Prepared = dict[str, Any]


#: Bytes from which an entry is compared with the free memory before it is read.
LARGE = 1 << 30


#: Where the hash stands while it is computed.
_BLANK = b"0" * 64


#: How an entry begins, after the eight bytes of the header's length.
_HASH = re.compile(rb'\{"__metadata__":\{"hash":"([0-9a-f]{64})"\}')


@dataclass(eq=False)
class Stored(Dataset[Prepared], Generic[Item]):
    """``prepare`` of each item, from ``folder`` once it lies there under the item's ``key``.

    Files that hold other than plain tensors are never opened, so nothing in them is ever run.
    """

    items: Sequence[Item]
    prepare: Callable[[Item], Prepared]
    folder: Path
    key: Callable[[Item], str]
    #: states of the entries whose hash this process has compared
    _sound: dict[str, State] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Prepared:
        item = self.items[index]
        key = self.key(item)
        path = self.folder / f"{key}.safetensors"
        try:
            return self._read(path, key)
        except FileNotFoundError:
            pass  # not yet prepared
        except (SafetensorError, OSError, ValueError, MemoryError):
            say_once(f"{self.folder} holds damaged prepared cases; they are prepared anew")
        prepared = self.prepare(item)
        with suppress(RunError), replacing(path) as temporary:
            temporary.write_bytes(packed(_flat(prepared), f"{self.folder.name}/{key}"))
        return prepared

    def _read(self, path: Path, key: str) -> Prepared:
        """Raises ValueError for an entry that is not as it was written."""
        with open_regular(path) as file:
            state = State.of(fstat(file.fileno()))
            if state.size > LARGE and state.size > free_memory_bytes():
                raise ValueError("larger than the memory")
            # Not mapped into memory: a file that is cut off while in use would end the process.
            content = file.read()
        if self._sound.get(key) != state:
            if not is_sound(content, f"{self.folder.name}/{key}"):
                raise ValueError("another hash")
            if state.settled:
                self._sound[key] = state
        return _nested(load(content))


def packed(tensors: Mapping[str, Tensor], key: str) -> bytes:
    """An entry: the tensors as a safetensors file that holds its own hash."""
    # Copies: safetensors refuses views of one storage, even where they do not overlap.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    content = save(copies, {"hash": _BLANK.decode()})
    return content.replace(_BLANK, _hash_of(key, content), 1)


def is_sound(content: bytes, key: str) -> bool:
    """Whether every byte of an entry is as it was written under this key."""
    found = _HASH.match(content, 8)
    if found is None:
        return False
    start, end = found.span(1)
    whole = memoryview(content)
    return found[1] == _hash_of(key, whole[:start], _BLANK, whole[end:])


def _hash_of(key: str, *parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(key.encode(), digest_size=32)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def _flat(prepared: Prepared) -> dict[str, Tensor]:
    """Named so that sorting the names keeps the order, on which what is drawn at random depends."""
    flat: dict[str, Tensor] = {}
    for name, value in prepared.items():
        inner = value if isinstance(value, dict) else {"": value}
        for own, tensor in inner.items():
            flat[f"{len(flat):04}/{name}/{own}"] = tensor
    return flat


def _nested(flat: dict[str, Tensor]) -> Prepared:
    nested: Prepared = {}
    for full_name in sorted(flat):
        _, name, own = full_name.split("/", 2)
        if own:
            nested.setdefault(name, {})[own] = flat[full_name]
        else:
            nested[name] = flat[full_name]
    return nested
