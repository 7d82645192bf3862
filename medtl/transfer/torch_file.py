"""Read files of ``torch.save`` without running any code that they contain."""

from __future__ import annotations

import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medtl.errors import WeightsError
from medtl.transfer.file_bounds import TorchScriptError, check_plain, check_sizes, contents_of
from medtl.transfer.nnunet_names import NNUNET, is_nnunet
from medtl.transfer.nnunet_plans import model_metadata, relative_heads
from medtl.transfer.wrapped import unwrapped

#: Packages whose objects in a checkpoint are settings and paths, never weights.
_SETTINGS = (
    *("addict", "argparse", "collections", "datetime", "easydict", "enum", "lightning"),
    *("lightning_fabric", "ml_collections", "mmcv", "mmengine", "omegaconf", "pathlib"),
    *("pytorch_lightning", "types", "typing", "uuid", "yacs"),
)


class _Ignored:
    """Replaces an object in a checkpoint, so that none of its package's functions is called."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Members:
    """Replaces a kind of mapping; what it is made of is put into a plain one."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Items:
    """Replaces a kind of list."""

    def __new__(cls, *_: object) -> list[Any]:  # type: ignore[misc]
        return []


#: Scalars and arrays that trainers such as nnU-Net's log with the weights.
_STAND_INS: list[Any] = [(_Ignored, "numpy.dtype"), (_Ignored, "numpy.ndarray")] + [
    (_Ignored, f"numpy.{core}.multiarray.{name}")
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
]


def read_torch(path: Path, key: str = "") -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors of a file of ``torch.save``, its metadata, and its form in words.

    Args:
        key: of the weights to take, where there are several.

    Raises:
        WeightsError: the file is damaged, holds more than its size allows, needs code to be read,
            or has no weights, or several.
    """
    content, records = _load(path)
    if isinstance(content, Tensor) or not isinstance(content, Mapping | list | tuple):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not a state dict; save its state_dict()"
        )
    form, tensors = unwrapped(path, content, key)
    if not tensors:
        raise WeightsError(_without_weights(path, content))
    for name, tensor in tensors.items():
        check_plain(path, name, tensor)
    check_sizes(path, tensors, records)
    if isinstance(content, Mapping) and is_nnunet(content) and not key:
        metadata = model_metadata(content, path)
        owned = _owned(tensors)
        return relative_heads(owned) if metadata.get("softmax") else owned, metadata, NNUNET
    return _owned(tensors), {}, form


def _load(path: Path) -> tuple[Any, Counter[int] | None]:
    """The content, and the sizes of the tensors' memories as the file's directory lists them."""
    try:
        stated = contents_of(path)
    except TorchScriptError as error:
        raise WeightsError(_why_unreadable(path, "TorchScript")) from error
    stand_ins = [*_STAND_INS, *_stand_ins(stated.names)]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # about formats that are out of use
            # Mapped, so that no record is larger than what the file holds.
            mapped = stated.records is not None
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(_why_unreadable(path, str(error))) from error
    return content, stated.records


def _stand_ins(names: Iterable[str]) -> list[tuple[type, str]]:
    """What replaces the settings that a checkpoint holds."""
    return [
        (_stand_in(name.rpartition(".")[2]), name)
        for name in sorted(names)
        if name.partition(".")[0] in _SETTINGS
        and name not in ("collections.OrderedDict", "collections.Counter")
    ]


def _stand_in(name: str) -> type:
    if name.lower().endswith("dict") or name in ("Dict", "CfgNode", "Config"):
        return _Members
    return _Items if name == "deque" else _Ignored


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in memory, as the file may change; tensors of one memory share one again."""
    copied: dict[tuple[int, int], torch.UntypedStorage] = {}
    owned = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        place = memory.data_ptr(), memory.nbytes()
        if place not in copied:
            every_byte = torch.empty(0, dtype=torch.uint8).set_(memory)
            copied[place] = every_byte.clone().untyped_storage()
        owned[name] = torch.empty(0, dtype=tensor.dtype).set_(
            copied[place], tensor.storage_offset(), tensor.shape, tensor.stride()
        )
    return owned


def _without_weights(path: Path, content: Any) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(map(str, list(content)[:6])) or "none"
        return f"{path} holds no state dict (its keys: {keys}); save the network's state_dict()"
    kind = type(content).__name__
    return f"{path} holds a {kind} without names, not a state dict; save the network's state_dict()"


#: Keeps the tensors of a checkpoint, whatever else is in it.
_RECIPE = (
    "import torch; keep = lambda x: x.state_dict() if hasattr(x, 'state_dict') else "
    "{k: keep(v) for k, v in x.items() if torch.is_tensor(v) or hasattr(v, 'items') "
    "or hasattr(v, 'state_dict')} if hasattr(x, 'items') else x; "
)


def _why_unreadable(path: Path, message: str) -> str:
    if "TorchScript" in message:
        return (
            f"{path} is a TorchScript program, not a state dict; where you trust it, save its "
            f"tensors in Python: import torch; "
            f"torch.save(torch.jit.load({str(path)!r}).state_dict(), 'weights.pt')"
        )
    needs = re.search(r"GLOBAL ([\w.]+)", message)
    if needs is None:
        return f"{path} is truncated, damaged or no file of torch.save; fetch or write it again"
    return (
        f"{path} holds Python objects ({needs.group(1)}) that only running code could read, and "
        f"medtl never runs a file; where you trust it, re-save its tensors with the program that "
        f"wrote it in Python: {_RECIPE}"
        f"torch.save(keep(torch.load({str(path)!r}, weights_only=False)), 'weights.pt')"
    )
