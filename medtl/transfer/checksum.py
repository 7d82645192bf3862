"""The hash that files of tensors carry in their metadata, checked when they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

#: Field of the metadata that holds :func:`digest` of everything else.
CHECKSUM = "sha256"


def digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """SHA-256 of the tensors (names, types, shapes, bytes) and of the record."""
    found = sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def check_sum(tensors: Mapping[str, Tensor], record: dict[str, Any]) -> None:
    """Take the checksum out of a record and compare it; files of older versions have none.

    Raises:
        ValueError: it is of other content.
    """
    stated = record.pop(CHECKSUM, None)
    if stated is None:  # or its name has changed
        whole = not any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in record.values())
    else:
        whole = stated == digest(tensors, record)
    if not whole:
        raise ValueError("its content has changed since it was written (checksum)")
