"""Read safetensors files, and medtl's metadata in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from medtl.errors import WeightsError
from medtl.runtime.records import parse_json
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transfer.checksum import check_sum
from medtl.transfer.file_bounds import check_listed, check_names
from medtl.transfer.wrapped import taken

#: The version of medtl's metadata.
FORMAT = 1

#: What safetensors and torch raise for a damaged file.
_DAMAGED = (
    *(SafetensorError, OSError, ValueError, LookupError, AttributeError),
    *(TypeError, RuntimeError, OverflowError),
)


def read_safetensors(path: Path, key: str = "") -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors of a file (those under ``key``), medtl's metadata, and the form in words.

    Raises:
        WeightsError: the file is damaged, or lists more tensors than a network has.
    """
    try:
        check_listed(path, _header(path))
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            check_names(path, names)
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
    except NotImplementedError as error:  # types that torch has and cannot copy
        raise WeightsError(
            f"{path} has tensors of a type packed below 8 bits; save plain floating-point weights"
        ) from error
    except _DAMAGED as error:
        raise WeightsError(f"{path} is truncated or damaged; fetch or write it again") from error
    metadata: dict[str, Any] = {}
    if "medtl" in header:
        metadata = _parse_metadata(path, header["medtl"])
        try:
            check_sum(tensors, metadata)
        except ValueError as error:
            raise WeightsError(f"{path} is damaged: {error}; fetch or write it again") from error
    if key:
        tensors = taken(path, tensors, key)
    return tensors, metadata, "medtl" if "medtl" in header else "safetensors"


def _header(path: Path) -> bytes:
    """The JSON before the tensors. Raises ValueError if it is longer than the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError(length)
        return file.read(length)


def _parse_metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise WeightsError(
            f"{path} has damaged medtl metadata ({error}); write it again"
        ) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        version = metadata.get("format") if isinstance(metadata, dict) else None
        raise WeightsError(
            f"{path} has checkpoint format {str(version)[:20]}, this medtl reads {FORMAT}; update "
            "medtl"
        )
    if damage := CheckpointMetadata.damage(metadata):
        raise WeightsError(f"{path} has damaged medtl metadata: {damage}; write it again")
    return metadata
