"""Prepared cases kept on disk: a store that may be lost, full or damaged at any time.

What cannot be read is prepared anew, and what cannot be written is prepared again next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from torch.utils.data import Dataset

from medtl.errors import RunError
from medtl.transfer.weights import write_tensors

Item = TypeVar("Item")


#: Tensors by name, or mappings of such.
Prepared = dict[str, Any]


@dataclass(eq=False)
class Stored(Dataset[Prepared], Generic[Item]):
    """``prepare`` of each item, from ``folder`` once it lies there under the item's ``key``.

    Files that hold other than plain tensors are never opened, so nothing in them is ever run.
    """

    items: Sequence[Item]
    prepare: Callable[[Item], Prepared]
    folder: Path
    key: Callable[[Item], str]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Prepared:
        item = self.items[index]
        path = self.folder / f"{self.key(item)}.safetensors"
        with suppress(SafetensorError, OSError, ValueError):
            # Not mapped into memory: a file that is cut off while in use would end the process.
            return _nested(load(path.read_bytes()))
        prepared = self.prepare(item)
        with suppress(RunError):
            write_tensors(path, _flat(prepared), "prepared")
        return prepared


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
