"""What this machine offers and what is missing; heavy packages are imported on demand."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from medtl.errors import UnknownNameError
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table

_GB = 1e9


@dataclass(frozen=True, slots=True, repr=False)
class Machine(Shown):
    """Versions, devices, memory (GB), cache, plugins and extras, by section."""

    report: Mapping[str, Mapping[str, Any]]

    @property
    def title(self) -> str:
        versions = self.report["versions"]
        return f"medtl {versions['medtl']}, Python {versions['python']}, {versions['system']}"

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        if section not in self.report:
            raise UnknownNameError("section", section, self.report)
        return self.report[section]

    def tables(self) -> list[Table]:
        return [
            Table(
                section.replace("_", " "),
                ("what", "value"),
                tuple((name, _shown(value)) for name, value in content.items()),
            )
            for section, content in self.report.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return {section: dict(content) for section, content in self.report.items()}


def examine(plugins: Mapping[str, Any]) -> Machine:
    """Everything ``medtl doctor`` knows, by section; sizes in GB. ``plugins``: a row by name."""
    return Machine(
        {
            "versions": _versions(),
            "devices": _devices(),
            "memory_gb": {
                "total": _pages_gb("SC_PHYS_PAGES"),
                "free": _pages_gb("SC_AVPHYS_PAGES"),
            },
            "cache": _cache(),
            "plugins": dict(plugins),
            "extras": {
                extra: {package: _installed(package) for package in packages}
                for extra, packages in sorted(_requirements().items())
                if extra
            },
        }
    )


def _requirements() -> dict[str, list[str]]:
    """Extra -> names of the packages it needs; "" is for those that medtl always needs."""
    packages: dict[str, list[str]] = {"": []}
    for line in requires("medtl") or ():
        requirement, _, marker = line.partition(";")
        package = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        extra = re.search(r"""extra == ['"](.+?)['"]""", marker)
        if package:
            packages.setdefault(extra[1] if extra else "", []).append(package[0])
    return packages


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions() -> dict[str, Any]:
    return {
        "medtl": _installed("medtl"),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{package: _installed(package) for package in sorted(_requirements()[""])},
    }


def _devices() -> dict[str, Any]:
    try:
        import torch

        from medtl.runtime.device import has_bf16
    except ImportError as error:  # medtl doctor must run in a broken installation
        return {"error": f"cannot be examined: {error}"}

    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return {
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_bf16": has_bf16("cpu"),
        "cuda": [
            {
                "name": gpu.name,
                "memory_gb": round(gpu.total_memory / _GB, 1),
                "bf16": has_bf16("cuda"),
            }
            for gpu in gpus
        ],
        "mps": torch.backends.mps.is_available(),
    }


def _memory_gb() -> dict[str, Any]:
    return {"total": _pages_gb("SC_PHYS_PAGES"), "free": _pages_gb("SC_AVPHYS_PAGES")}


def _pages_gb(name: str) -> float | None:
    """None if the system does not report it; a container's limit may be lower."""
    try:
        return round(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") / _GB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _cache() -> dict[str, Any]:
    from medtl.runtime.cache import cache_dir

    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return {
        "folder": str(folder),
        "writable": os.access(existing, os.W_OK),
        "free_gb": round(shutil.disk_usage(existing).free / _GB, 1),
    }


def _shown(value: Any) -> str:
    """A value of :func:`examine` in words."""
    if value is None:
        return "not found"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        if "status" in value:
            return f"{value['status']} {value['reason']}".strip()
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return str(value)
