"""A Python environment of its own, in which packages can be installed without downloading any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from places import ROOT

#: Would let code in that is not installed, or let pip look elsewhere.
_LEFT_OUT = ("PYTHONPATH", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "MEDTL_DISABLE_PLUGINS")


@dataclass(frozen=True)
class CleanEnvironment:
    """It sees what the tests' environment has installed, and holds what is installed into it."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> CleanEnvironment:
        venv.create(folder, with_pip=False)
        made = cls(folder)
        paths = sysconfig.get_paths()
        seen = [ROOT, *sorted(ROOT.glob("plugins/*")), paths["purelib"], paths["platlib"]]
        (made.packages / "beside.pth").write_text("\n".join(dict.fromkeys(map(str, seen))) + "\n")
        return made

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def packages(self) -> Path:
        """Where it installs."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / ("Lib" if os.name == "nt" else f"lib/{version}") / "site-packages"

    def run(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run its Python, away from the source tree, and check the exit code."""
        environment = {k: v for k, v in os.environ.items() if k not in _LEFT_OUT}
        result = subprocess.run(
            [str(word) for word in (self.python, *words)],
            cwd=self.folder,
            env=environment | {"MEDTL_CACHE": str(self.folder / "cache")},
            capture_output=True,
            text=True,
        )
        assert result.returncode == code, f"{words}\n{result.stdout}\n{result.stderr}"
        return result

    def medtl(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "medtl", *words, code=code)

    def install(self, *projects: Path) -> None:
        self._pip("install", "--no-deps", "--no-build-isolation", *projects)

    def uninstall(self, *names: str) -> None:
        self._pip("uninstall", "--yes", *names)

    def components(self) -> dict[str, dict[str, str]]:
        """Kind -> name -> plugin, as ``medtl list`` tells it."""
        listed: dict[str, list[dict[str, Any]]] = json.loads(self.medtl("list", "--json").stdout)
        return {kind: {row["name"]: row["plugin"] for row in rows} for kind, rows in listed.items()}

    def _pip(self, command: str, *words: object) -> None:
        """The tests' own pip, seen through ``beside.pth``, installs into this environment."""
        options = ("--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input")
        network = ("--no-index",) if command == "install" else ()
        self.run("-m", "pip", command, *options, *network, *words)
