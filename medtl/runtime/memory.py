"""Free memory, how this process allocates it, and whether an error means that it ran out."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

# malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


#: Messages of torch's allocators, the C++ library, oneDNN and cuBLAS.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks for the next allocation of their size.

    By default glibc returns them to the system at once, and every layer's output costs page faults:
    a tenth of the time of inference on the CPU. Blocks of the size of whole volumes are returned.
    A no-op without glibc.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 28)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 1 << 26)


def give_back_freed_memory() -> None:
    """Release memory that is cached only, on CPU and GPU: after a failed allocation, or before a
    large one."""
    gc.collect()  # a traceback in a reference cycle still holds tensors
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name) if sys.platform.startswith("linux") else None
    except (OSError, AttributeError):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out.

    Torch raises a class of its own on GPUs, and a RuntimeError on the CPU. It is not imported here.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def unless_out_of_memory(function: Callable[[], Result]) -> Result | None:
    """The function's result; None, with the freed memory given back, where memory ran out."""
    try:
        return function()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    give_back_freed_memory()  # here the traceback, which holds the tensors, is gone
    return None


def free_memory_bytes() -> int:
    """RAM that is free without swapping, within the limits of the process's control groups.

    Read on Linux; elsewhere assumed to be 4 GiB, half of 8.
    """
    available = 4 * 1024**3
    try:
        available = _reported_bytes("/proc/meminfo", "MemAvailable:") or available
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return available
    return max(0, min([available, *group_room(groups, Path("/sys/fs/cgroup"))]))


def in_words(size: float) -> str:
    """Bytes as text, in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"


def peak_memory_bytes() -> int | None:
    """The peak RAM of this process so far (Linux; elsewhere None)."""
    with suppress(OSError):
        return _reported_bytes("/proc/self/status", "VmHWM:")
    return None


def _reported_bytes(path: str, field: str) -> int | None:
    """A field that Linux reports in kB; None if the file lacks it."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def group_room(groups: str, root: Path) -> Iterator[int]:
    """Bytes left below each memory limit of the control groups that ``groups`` names.

    ``groups`` is the text of ``/proc/self/cgroup``, version 1 or 2. A group's limit applies to all
    groups within it.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, files = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        while group != root.parent:
            with suppress(OSError, ValueError):  # no limit here, or "max"
                yield _room(group, *files)
            group = group.parent


def _room(group: Path, limit: str, usage: str, cached: str) -> int:
    allowed, used = (int((group / name).read_text(encoding="utf-8")) for name in (limit, usage))
    facts = dict(
        line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    )
    # The page cache is released when memory is needed.
    return allowed - used + int(facts.get(cached, 0))
