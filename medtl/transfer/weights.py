"""Weights in files: read what others wrote without running any of it, write medtl's checkpoints.

A medtl checkpoint is a safetensors file whose metadata key ``medtl`` holds ``{"format": 1, ...}``
with the fields of ``CheckpointMetadata`` as JSON. To start
from the file only ``format`` is required, to predict with it all of them. The metadata of a file
that medtl did not write are ``{}``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from medtl.errors import RunError, WeightsError
from medtl.networks.budget import TooLargeError, at_most
from medtl.runtime.files import from_home, open_regular, replacing, unwritable
from medtl.runtime.records import read_stages
from medtl.runtime.run_folder import STAGES
from medtl.transfer.checksum import CHECKSUM, digest
from medtl.transfer.file_bounds import check_plain
from medtl.transfer.safetensors_file import FORMAT, read_safetensors
from medtl.transfer.torch_file import read_torch
from medtl.transfer.wrapped import without_wrappers

BEST = "checkpoint_best.safetensors"


#: The checkpoint of a fold that nnU-Net has finished.
NNUNET_FINAL = "checkpoint_final.pth"


#: How files of weights are usually called; used for hints alone.
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")

#: Networks that are built to make one: others are compared with it (:func:`finish`), and numbers
#: that small ones need besides.
_BUILDS, _BESIDE = 4, 2**22


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one file, on the CPU, names as saved but for wrapper prefixes."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]  #: medtl's own, see the module; of others only what they state
    format: str  #: "medtl", "safetensors", "state dict", "nnU-Net v2", "checkpoint['model']", ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Order of the input channels; empty if the file does not say."""
        return tuple(self.metadata.get("modalities", ()))

    @property
    def regions(self) -> tuple[str, ...]:
        """Order of the output channels; empty if the file does not say."""
        return tuple(self.metadata.get("regions", ()))

    @property
    def network(self) -> dict[str, Any]:
        """How the network was built; empty if the file does not say."""
        saved = self.metadata.get("network")
        return saved if isinstance(saved, dict) else {}

    @property
    def seen(self) -> frozenset[str]:
        """Content hashes of the images these weights were trained on."""
        return frozenset(self.metadata.get("seen", ()))


def steps_behind(weights: Weights) -> int | None:
    """How many optimiser steps these weights have seen, as far as they say."""
    steps = weights.metadata.get("steps")
    return steps if isinstance(steps, int) and steps >= 0 else None


def read_weights(path: Path, key: str = "") -> Weights:
    """Read safetensors, or what ``torch.save`` wrote, without running code from the file.

    Args:
        key: of the weights to take, where the file holds several, such as ``teacher``.

    Raises WeightsError for anything else, for damaged files, for tensors that are not plain
    finite numbers, and where several networks are found and no ``key`` names one.
    """
    read = read_safetensors if _kind(path) == "safetensors" else read_torch
    tensors, metadata, form = read(path, key)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; name another file")
    for name, tensor in tensors.items():
        check_plain(path, name, tensor)
        _check_finite(path, name, tensor, own=form == "medtl")
    if not any(bool(_computable(tensor).any()) for tensor in tensors.values()):
        raise WeightsError(f"{path}: all its values are 0; fetch or train it again")
    return Weights(path, without_wrappers(tensors), metadata, form)


@contextmanager
def no_larger_than(weights: Weights) -> Iterator[None]:
    """Refuse to build a network, as the file records it, that is much larger than its tensors.

    Raises WeightsError before the memory is taken.
    """
    numbers = sum(tensor.numel() for tensor in weights.tensors.values())
    try:
        with at_most(_BUILDS * numbers + _BESIDE):
            yield
    except TooLargeError as error:
        raise WeightsError(
            f"{weights.path} records a network ({weights.network.get('name')} of width "
            f"{weights.network.get('width')}) that is larger than its {numbers:,} numbers; its "
            "metadata were changed, so fetch or train it again"
        ) from error


def _kind(path: Path) -> str:
    """Tell files by their first bytes: the extension says little."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name a weights file, or a run folder of medtl")
    try:
        with open_regular(path) as file:
            head = file.read(32)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise WeightsError(f"{path} is empty; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer; fetch the weights with 'git lfs pull'")
    # First, as the length that a safetensors file begins with may look like a pickle's first byte.
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK\x03\x04") or head[0] == 0x80:
        return "torch"
    raise WeightsError(
        f"{path} is not a weights file; medtl reads safetensors and state dicts of torch.save"
    )


def _check_finite(path: Path, name: str, tensor: Tensor, *, own: bool) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(_computable(tensor)).all()):
        mend = "train anew at a lower --lr" if own else "use a checkpoint from before it failed"
        raise WeightsError(f"{path}: {name} holds NaN or infinite values; {mend}")


def _computable(tensor: Tensor) -> Tensor:
    """The tensor; 8-bit floats, which torch stores and does not compute with, as float32."""
    return tensor.float() if tensor.element_size() == 1 else tensor


def write_checkpoint(
    path: Path, network_state: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write a medtl checkpoint, whole or not at all; ``format`` is added to the metadata.

    A tensor registered under two names is saved under the first; the network ties it again.
    Raises RunError if the file cannot be written.
    """
    record = {"format": FORMAT, **metadata}
    first_names: dict[Any, str] = {}
    for name, tensor in network_state.items():
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        first_names.setdefault(memory if tensor.numel() else name, name)
    write_summed(path, {name: network_state[name] for name in first_names.values()}, record)


def write_summed(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """:func:`write_tensors` with a record, and the checksum of both, as metadata."""
    plain = json.loads(json.dumps(record, allow_nan=False))
    plain[CHECKSUM] = digest({name: t.detach().cpu() for name, t in tensors.items()}, plain)
    write_tensors(path, tensors, json.dumps(plain, sort_keys=True))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: str) -> None:
    """Write tensors, and ``text`` as their metadata, as safetensors: whole or not at all.

    Raises RunError if the file cannot be written.
    """
    # Copies: safetensors refuses views of one storage, even where they do not overlap.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        with replacing(path) as temporary:
            save_file(copies, temporary, metadata={"medtl": text})
    except SafetensorError as error:  # how it reports a full disk
        number = re.search(r"os error (\d+)", str(error))
        reason = OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(error)
        raise unwritable(path, reason) from error


def resolve_weights(text: str) -> Path:
    """``FILE``, ``runs/x`` (its last stage) or ``runs/x/source`` (that stage) -> a weights file.

    A folder of nnU-Net with one trained fold gives that fold's checkpoint. The stages' order is
    that of ``stages.json`` in the run folder, else of their checkpoints' age.
    """
    path = from_home(text)
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"{text}: no such file or run{_nearby(path)}")
    if (path / BEST).is_file():
        return path / BEST
    folds = sorted(path.glob(f"fold_*/{NNUNET_FINAL}")) or list(path.glob(NNUNET_FINAL))
    if len(folds) > 1:
        each = " ".join(str(fold) for fold in folds)
        raise WeightsError(
            f"{text} holds {len(folds)} folds of an nnU-Net; name one or all: {each}"
        )
    if folds:
        return folds[0]
    stages = _finished_stages(path)
    if not stages:
        raise WeightsError(
            f"{text} holds no {BEST}, and none of its folders does; let `medtl train` end first"
        )
    planned = _planned_stages(path) or stages
    if planned[-1] not in stages:
        choices = ", ".join(str(path / stage) for stage in stages)
        raise WeightsError(f"{text}: stage {planned[-1]!r} has no checkpoint; there is {choices}")
    return path / planned[-1] / BEST


def _finished_stages(run: Path) -> list[str]:
    """Names of the stage folders with a checkpoint, oldest first."""
    files = sorted(run.glob(f"*/{BEST}"), key=lambda file: (file.stat().st_mtime_ns, file))
    return [file.parent.name for file in files]


def _planned_stages(run: Path) -> Sequence[str]:
    if not (run / STAGES).exists():
        return ()
    try:
        return read_stages(run / STAGES)
    except RunError as error:
        raise WeightsError(f"{error}, or name a stage's folder instead") from error


def _nearby(path: Path) -> str:
    """What the user may have meant: the run's stages, else the runs and weights beside it."""
    if not path.parent.is_dir():
        return ""
    names = _finished_stages(path.parent)
    if not names:
        beside = sorted(p for p in path.parent.iterdir() if p.suffix in SUFFIXES or _is_run(p))
        names = [p.name for p in beside]
    return f"; {path.parent} holds {', '.join(names[:8])}" if names else ""


def _is_run(path: Path) -> bool:
    return path.is_dir() and (bool(_finished_stages(path)) or (path / BEST).is_file())
