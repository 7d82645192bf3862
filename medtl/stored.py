"""Prepared cases kept on disk: a store that may be lost, full or damaged at any time.

What cannot be read is prepared anew, and what cannot be written is prepared again next time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from medtl.errors import RunError
from medtl.weights import write_tensors

Item = TypeVar("Item")
#: Tensors by name, or mappings of such.
Prepared = dict[str, Any]


class Stored(Dataset[Prepared], Generic[Item]):
    """``prepare`` of each item, from ``folder`` once it lies there under the item's ``key``.

    Files that hold other than plain tensors are never opened, so nothing in them is ever run.
    """

    def __init__(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], Prepared],
        folder: Path,
        key: Callable[[Item], str],
    ) -> None:
        self.items = items
        self.prepare = prepare
        self.folder = folder
        self.key = key

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Prepared:
        item = self.items[index]
        path = self.folder / f"{self.key(item)}.safetensors"
        with suppress(SafetensorError, OSError, ValueError, LookupError, TypeError):
            return _nested(_read(path))
        prepared = self.prepare(item)
        with suppress(RunError):
            flat = _flat(prepared)
            write_tensors(path, flat, json.dumps(list(flat)))
        return prepared


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in the order in which they were written."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in json.loads(file.metadata()["medtl"])}


def _flat(prepared: Prepared) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in prepared.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}/{own}": tensor for own, tensor in inner.items()}
    return flat


def _nested(flat: dict[str, Tensor]) -> Prepared:
    nested: Prepared = {}
    for full_name, tensor in flat.items():
        name, _, own = full_name.partition("/")
        if own:
            nested.setdefault(name, {})[own] = tensor
        else:
            nested[name] = tensor
    return nested
