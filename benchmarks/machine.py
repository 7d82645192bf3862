"""What the results of a benchmark depend on: processor, cores, memory, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """The machine without its name: processor, cores, memory (GB), Python and torch."""
    facts: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "monai": version("monai"),
    }
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        memory = Path("/proc/meminfo").read_text().splitlines()[0]
    except OSError:
        return facts
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    facts |= {key.strip(): value.strip() for key, value in named.items() if "model name" in key}
    flags = next((value for key, value in named.items() if key.strip() == "flags"), "").split()
    facts["bf16"] = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    facts["memory_gb"] = round(int(memory.split()[1]) / 1e6)
    return facts
