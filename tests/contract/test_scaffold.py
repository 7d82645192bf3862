"""``medtl plugins new``: packages that pass their own tests at once, and names that are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clean_environment import CleanEnvironment
from terminal import run_python

from medtl.errors import ConfigError, RunError, UnknownNameError
from medtl.plugins.catalog import load_catalog
from medtl.plugins.scaffold import LONGEST_NAME, SCAFFOLDS, write_plugin

Command = Callable[..., None]


@pytest.mark.parametrize(("name", "modality"), [("liver-ct", ""), ("liver", "ct"), ("ectomy", "")])
def test_several_kinds_and_ct_are_written_as_asked(
    name: str, modality: str, tmp_path: Path
) -> None:
    kinds = ["task", "network", "transform", "task"]
    folder = write_plugin(name, kinds, tmp_path, load_catalog(), modality)
    module = name.replace("-", "_")
    source = folder / f"medtl_{module}"
    plugin = (source / "plugin.py").read_text()
    assert re.findall(r"def (medtl_\w+)", plugin) == [
        "medtl_tasks",
        "medtl_networks",
        "medtl_transforms",
    ]
    tests = sorted(path.stem for path in (folder / "tests").iterdir())
    assert tests == [f"test_{module}_{kind}" for kind in ("network", "task", "transform")]
    ct = name != "ectomy"
    task, preset = (source / "task.py").read_text(), (source / "preset.py").read_text()
    assert ('Modality("ct")' in task and "window(cases, CT)" in task) == ct
    assert ('Modality("mr")' in task) != ct and ("windowed=True" in preset) == ct
    subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--no-cache", folder], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--check", "-q", folder], check=True)


def test_an_unknown_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown modality 'pet'"):
        write_plugin("knees", "task", tmp_path, load_catalog(), "pet")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, command: Command) -> dict[str, Path]:
    """Kind -> a package of it, called my-KIND."""
    parent = tmp_path_factory.mktemp("packages")
    for kind in SCAFFOLDS:
        command("plugins", "new", f"my-{kind}", "--kind", kind, "--out", parent)
    return {kind: parent / f"medtl-my-{kind}" for kind in SCAFFOLDS}


def test_packages_pass_their_own_tests_at_once(packages: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pip")
    pytest.importorskip("hatchling")
    clean = CleanEnvironment.create(tmp_path / "clean")
    clean.install(*packages.values())
    listed = clean.components()
    for kind in SCAFFOLDS:
        registry = {"strategy": "strategies"}.get(kind, f"{kind.replace('-', '_')}s")
        assert listed[registry][f"my-{kind}"] == f"my-{kind}"
    tests = [folder / "tests" for folder in packages.values()]
    words = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", tmp_path)
    shown = clean.run("-B", "-m", "pytest", *words, *tests).stdout
    assert re.search(r"\d\d+ passed", shown) and "failed" not in shown


def test_every_file_is_linted_formatted_and_filled_in(packages: dict[str, Path]) -> None:
    for folder in packages.values():
        for path in filter(Path.is_file, folder.rglob("*")):
            assert not re.search(r"\$\w|\$\{", path.read_text()), path
            assert path.name == "py.typed" or path.read_text().endswith("\n")
    ruff = pytest.importorskip("ruff").__file__
    assert ruff
    for words in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", *packages.values()], check=True
        )


def test_what_to_type_next_is_printed_last(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command("plugins", "new", "Knee_MR", "--kind", "task", "--out", tmp_path / "of mine")
    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / "of mine" / "medtl-knee-mr"
    assert lines[0] == f"wrote {folder}:"
    assert "  medtl_knee_mr/plugin.py" in lines and "  tests/test_knee_mr.py" in lines
    assert f"  cd '{folder}'" in lines
    assert lines[-3:-1] == ["  pip install -e '.[dev]'", "  pytest"]


REFUSED = {
    "liver ct": "letters, digits and dashes",
    "2d-net": "a letter first",
    "": "letters, digits and dashes",
    "café": "letters, digits and dashes",
    "../up": "letters, digits and dashes",
    "a--b": "letters, digits and dashes",
    "x" * (LONGEST_NAME + 1): f"{LONGEST_NAME} at most",
    "medtl-liver": "write 'liver'",
    "brats": "is installed already",
    "Modality_Transfer": "is installed already",
    "unet": "is taken, see `medtl list networks`",
    "energy": "is taken, see `medtl list shift-metrics`",
    "train": "is taken, see `medtl list commands`",
}


@pytest.mark.parametrize(("name", "told"), REFUSED.items(), ids=map(repr, REFUSED))
def test_names_that_cannot_be_are_refused_and_nothing_is_written(
    name: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        write_plugin(name, "task", tmp_path, load_catalog())
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "medtl_knees.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="package medtl_knees is installed already"):
        write_plugin("knees", "task", tmp_path, load_catalog())


def test_an_unknown_kind_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'shift-metric'"):
        write_plugin("knees", "shift-metrics", tmp_path, load_catalog())


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write_plugin("knees", "network", tmp_path, load_catalog())
    (folder / "README.md").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        write_plugin("knees", "task", tmp_path, load_catalog())
    assert (folder / "README.md").read_text() == "mine"
    assert os.listdir(tmp_path) == ["medtl-knees"]


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"medtl-knees: cannot be written"):
        write_plugin("knees", "task", tmp_path / "file", load_catalog())
    assert os.listdir(tmp_path) == ["file"]


def test_writing_a_package_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom medtl.cli.start import main\n"
        "sys.argv = 'medtl plugins new knees --kind task --out'.split() + sys.argv[1:]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'monai', 'numpy', 'scipy', 'nibabel'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run_python("-c", code, tmp_path, code=0)
