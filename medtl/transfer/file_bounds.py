"""Bounds on files of weights, told from the file's size before anything is allocated for them.

A few kilobytes can state a tensor of terabytes, records that unpack to gigabytes, or a million
tensors. What these files hold is bounded by their size, as ``torch.save`` compresses nothing.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from medtl.errors import WeightsError

#: More tensors than any network for images has, its optimiser's included.
MOST_TENSORS = 20_000

#: Instructions of the pickles in a file, of which a tensor takes 20 to 30, and calls among them,
#: of which it takes 2. nnU-Net logs a score per class and epoch, and each takes 2 calls, too.
MOST_INSTRUCTIONS, MOST_CALLS = 150 * MOST_TENSORS, 15 * MOST_TENSORS

#: Bytes of pickles and of all else beside the tensors' memories.
MOST_PICKLED = 2**24

#: Bytes of a zip file's directory, of which a record takes about 70.
MOST_LISTED = 2**23

#: Characters of a tensor's name.
LONGEST_NAME = 1000

#: Numbers that tensors may share: several views of one memory, as many times the file's size.
MOST_SHARED = 4

#: Types of numbers; 8-bit floats are cast, others that take less than a byte are packed.
PLAIN = frozenset(
    (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.bool,
    )
)

#: Pickles of a file in the format before torch 1.6; the numbers of all tensors follow them.
_PICKLES = 5

#: Pickle instructions that torch reads -> bytes of their argument, or of its length before it.
_FIXED = {
    **dict.fromkeys((bytes([code]) for code in b"\x81RbaesuN(t\x85\x86\x87\x88\x89)]}\x8fQ"), 0),
    **dict.fromkeys((b"K", b"h", b"q", b"\x80"), 1),
    **{b"M": 2, b"J": 4, b"j": 4, b"r": 4, b"G": 8},
}
_COUNTED = {b"X": 4, b"U": 1, b"\x8a": 1}

_END, _END64_LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


def check_listed(path: Path, header: bytes) -> None:
    """Raise WeightsError if the header of a safetensors file lists too many tensors."""
    if header.count(b'"data_offsets"') > MOST_TENSORS:
        raise _too_many(path)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of ``torch.save`` states before its tensors are read.

    ``names``: the Python names it refers to ("argparse.Namespace"). ``records``: the sizes in bytes
    of the tensors' memories; None: of an older format, which keeps no directory.
    """

    names: frozenset[str]
    records: Counter[int] | None = None


class TorchScriptError(WeightsError):
    """The file is a program, not a state dict."""


def contents_of(path: Path) -> Contents:
    """Read the pickles and the directory of a file of ``torch.save`` alone, and run nothing.

    Raises:
        WeightsError: the file is damaged, or holds more than its size allows.
        TorchScriptError: it is a TorchScript program.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                return _contents_of_zip(path, file)
            file.seek(0)
            return Contents(frozenset(_names_in(path, file.read(MOST_PICKLED), _PICKLES)))
    except (BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise WeightsError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path} is truncated, damaged or no file of torch.save; fetch or write it again"


def _contents_of_zip(path: Path, file: IO[bytes]) -> Contents:
    size = path.stat().st_size
    if _directory_bytes(file, size) > MOST_LISTED:
        raise _too_many(path)
    with ZipFile(file) as archive:
        records = archive.infolist()
        if any(record.filename.endswith("/constants.pkl") for record in records):
            raise TorchScriptError(str(path))
        unpacked = sum(record.file_size for record in records)
        if unpacked > size or any(record.compress_type != ZIP_STORED for record in records):
            raise WeightsError(
                f"{path} has compressed records ({unpacked:,} bytes in a file of {size:,}), and "
                "torch.save compresses nothing; save the weights again with torch.save"
            )
        beside = sum(r.file_size for r in records if "/data/" not in r.filename)
        if beside > MOST_PICKLED:  # torch reads the byte order and others whole
            raise _too_many(path)
        pickles = [record for record in records if record.filename.endswith("data.pkl")]
        names: set[str] = set()
        for record in pickles:
            names.update(_names_in(path, archive.read(record), 1))
        sizes = Counter(r.file_size for r in records if "/data/" in r.filename)
        return Contents(frozenset(names), sizes)


def _directory_bytes(file: IO[bytes], size: int) -> int:
    """The size of a zip file's directory, as its end states it."""
    start = max(0, size - 2**16 - 22)
    file.seek(start)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0:
        raise BadZipFile
    stated = struct.unpack_from("<L", tail, end + 12)[0]
    locator = tail[max(0, end - 20) : end]
    if not locator.startswith(_END64_LOCATOR):
        return int(stated)
    file.seek(struct.unpack_from("<Q", locator, 8)[0])
    end64 = file.read(56)
    if not end64.startswith(_END64):
        raise BadZipFile
    return int(struct.unpack_from("<Q", end64, 40)[0])


def _names_in(path: Path, pickled: bytes, pickles: int) -> Iterator[str]:
    """The names in ``pickles`` that follow each other.

    Ends at an instruction that torch does not read either.
    """
    at = count = calls = 0
    while pickles and at < len(pickled):
        count += 1
        instruction = pickled[at : at + 1]
        calls += instruction in (b"R", b"\x81")
        if count > MOST_INSTRUCTIONS or calls > MOST_CALLS:
            raise _too_many(path)
        at += 1
        if instruction == b".":
            pickles -= 1
        elif instruction == b"c":
            module, name = pickled[at : at + 2 * LONGEST_NAME].split(b"\n", 2)[:2]
            at += len(module) + len(name) + 2
            yield _checked_name(path, f"{module.decode()}.{name.decode()}")
        elif instruction in _COUNTED:
            width = _COUNTED[instruction]
            at += width + int.from_bytes(pickled[at : at + width], "little")
        elif instruction in _FIXED:
            at += _FIXED[instruction]
        else:
            return


def _checked_name(path: Path, name: str) -> str:
    if name in ("__builtin__.bytearray", "builtins.bytearray"):  # torch makes one of any size
        raise WeightsError(f"{path} holds a bytearray; save the network's state_dict() alone")
    return name


def _too_many(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} lists more than {MOST_TENSORS:,} tensors or as much besides them; save the "
        "network's state_dict() alone"
    )


def check_names(path: Path, names: Collection[str]) -> None:
    """Raise WeightsError for more tensors, or longer names, than a network has."""
    if len(names) > MOST_TENSORS:
        raise _too_many(path)
    longest = max(map(len, names), default=0)
    if longest > LONGEST_NAME:
        raise WeightsError(f"{path} names a tensor in {longest:,} letters; write it again")


def is_plain(tensor: Tensor) -> bool:
    """Whether it is an array of numbers of a whole byte or more each."""
    unlike = tensor.is_quantized or tensor.is_meta or tensor.is_nested
    dense = tensor.layout == torch.strided and not unlike
    return dense and tensor.dtype in PLAIN


def check_plain(path: Path, name: str, tensor: Tensor) -> None:
    """Raise WeightsError for a tensor that is not plain, see :func:`is_plain`."""
    if not is_plain(tensor):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise WeightsError(
            f"{path}: {name} is a sparse, quantised, packed, complex or empty-shell tensor "
            f"({kind}); save plain floating-point weights"
        )


def check_sizes(
    path: Path, tensors: Mapping[str, Tensor], records: Counter[int] | None = None
) -> None:
    """Raise WeightsError if tensors claim more numbers than the file holds.

    A tensor that was expanded, or views of one memory, have more elements than are stored.
    ``records``: the sizes of the memories in the file, if it lists them.
    """
    check_names(path, tensors)
    size = path.stat().st_size
    most = MOST_SHARED * max(size, 2**20)
    stored: dict[int, int] = {}
    views: dict[tuple[object, ...], int] = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        stored[memory.data_ptr()] = memory.nbytes()
        claimed = tensor.numel() * tensor.element_size()
        views[tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype] = claimed
        if claimed > most:
            raise WeightsError(
                f"{path}: {name} states {tensor.numel():,} numbers, and the file has {size:,} "
                "bytes; save a contiguous copy of the tensor"
            )
    if sum(stored.values()) > size or sum(views.values()) > most:
        raise WeightsError(
            f"{path} states {sum(views.values()):,} bytes of tensors and has {size:,}; save "
            "contiguous copies of the tensors"
        )
    if records is not None and not Counter(filter(None, stored.values())) <= records:
        raise WeightsError(f"{path} states tensors of other sizes than it holds; fetch it again")
