"""What is installed is what lies in the folders: packages, entry points, metadata."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import ROOT

import medtl

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = sorted(path.parent for path in ROOT.glob("plugins/*/medtl_*/__init__.py"))
PACKAGES = {folder.relative_to(ROOT).as_posix() for folder in FOLDERS}


def test_every_plugin_folder_is_packaged_and_has_an_entry_point() -> None:
    hatch = PROJECT["tool"]["hatch"]["build"]
    assert set(hatch["targets"]["wheel"]["packages"]) == {"medtl", *PACKAGES}
    assert set(hatch["dev-mode-dirs"]) == {".", *(str(Path(p).parent) for p in PACKAGES)}
    points = dict(PROJECT["project"]["entry-points"]["medtl.plugins"])
    assert points.pop("core") == "medtl.plugins.builtin"
    assert points == {folder.parent.name: f"{folder.name}.plugin" for folder in FOLDERS}


def test_constraints_pin_every_dependency() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-"): line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert pinned["torch"] == "torch==2.13.0"  # a "+cpu" could not be found on every index
    needed = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
        *PROJECT["project"]["optional-dependencies"]["docs"],
    ]
    for requirement in needed:
        name = requirement.partition(">")[0].partition("=")[0].lower()
        assert name in pinned, requirement


def test_wheel_holds_core_and_plugins_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("build")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"medtl-{medtl.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        points = archive.read(f"medtl-{medtl.__version__}.dist-info/entry_points.txt").decode()
    for package in (ROOT / "medtl", *FOLDERS):
        files = {
            path.relative_to(package.parent).as_posix()
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert files <= names
    info = f"medtl-{medtl.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {
        "medtl",
        info,
        *(folder.name for folder in FOLDERS),
    }
    assert not any("/tests/" in name for name in names)
    assert f"{info}/licenses/LICENSE" in names
    assert "medtl = medtl.cli.start:main" in points
