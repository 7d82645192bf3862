"""Packages of others beside medtl: installed, in use, broken, gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clean_environment import CleanEnvironment
from places import ROOT

pytest.importorskip("pip")
pytest.importorskip("hatchling")

EXAMPLE = ROOT / "examples" / "third_party" / "medtl-liver-ct"
OFFERED = {
    "tasks": "liver-ct",
    "transforms": "abdomen-ct",
    "networks": "coarse-unet",
    "shift_metrics": "histogram-overlap",
}
TINY = ("--steps", 2, "--width", 4, "--batch-size", 2, "--device", "cpu", "--precision", "fp32")
TINY += ("--workers", 0, "--quiet")

API = "from medtl import Component, hookimpl\nPLUGIN_API = 1\n"
TASK = "@hookimpl\ndef medtl_{}():\n    return [Component('lost', 'lost:Lost', 'x')]\n"
#: Plugin -> its module, and a word of the reason that is shown; empty: it works.
OTHERS = {
    "bad-import": ("import no_such_module", "no_such_module"),
    "old-api": (API.replace("1", "0") + TASK.format("tasks"), "upgrade the plugin"),
    "misspelt": (API + TASK.format("taks"), "did you mean 'medtl_tasks'"),
    "exits": ("import sys\nsys.exit('goodbye')", "SystemExit: goodbye"),
    "noisy": ("print('hello')\n" + API + TASK.format("losses"), ""),
}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    """The example, in an environment that also holds four broken plugins and a noisy one."""
    clean = CleanEnvironment.create(tmp_path_factory.mktemp("beside"))
    for name, (source, _) in OTHERS.items():
        add_plugin(clean.packages, name, source)
    clean.install(EXAMPLE)
    return clean


def add_plugin(packages: Path, name: str, source: str) -> None:
    """What an installer would leave of a distribution of one module."""
    module = f"medtl_{name.replace('-', '_')}"
    (packages / f"{module}.py").write_text(source)
    facts = packages / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medtl-{name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[medtl.plugins]\n{name} = {module}\n")


@pytest.fixture(scope="module")
def run(beside: CleanEnvironment) -> Path:
    """The task trained on its own phantom, by its own network and preset."""
    beside.medtl("train", "liver-ct", *TINY, "--out", beside.folder / "run")
    return beside.folder / "run"


def test_everything_it_offers_is_listed(beside: CleanEnvironment) -> None:
    listed = beside.components()
    assert {kind: listed[kind][name] for kind, name in OFFERED.items()} == dict.fromkeys(
        OFFERED, "liver-ct"
    )


def test_broken_ones_are_told_and_leave_all_others_working(beside: CleanEnvironment) -> None:
    shown = beside.medtl("plugins", "list", "--json")
    rows = {row["name"]: row for row in json.loads(shown.stdout)}
    for name, (_, reason) in OTHERS.items():
        assert rows[name]["status"] == ("broken" if reason else "ok")
        assert reason in rows[name]["reason"] and "\n" not in rows[name]["reason"]
        assert rows[name]["distribution"] == f"medtl-{name}"
    working = {name for name, row in rows.items() if row["status"] == "ok"}
    assert {"core", "brats", "unet3d", "liver-ct"} <= working
    assert shown.stderr == "hello\n"  # of the noisy one; stdout is JSON alone
    assert "lost" not in beside.components()["tasks"]


def test_it_passes_the_checks_of_medtl(beside: CleanEnvironment) -> None:
    told = json.loads(beside.medtl("plugins", "check", "liver-ct", "--json").stdout)
    assert told["failed"] == 0, [row for row in told["checks"] if row["reason"]]
    assert {row["component"] for row in told["checks"]} >= set(OFFERED.values())


def test_its_own_tests_pass_where_it_is_installed(beside: CleanEnvironment) -> None:
    tests = [
        path for path in (EXAMPLE / "tests").glob("test_*.py") if "conformance" not in path.stem
    ]
    words = ("-q", "-p", "no:cacheprovider", "-c", EXAMPLE / "pyproject.toml", *tests)
    beside.run("-m", "pytest", *words)


def test_it_trains_on_its_own_phantom_and_says_so(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["synthetic"] is True
    config = (run / "config.yaml").read_text()
    assert "data: null" in config
    checkpoint = (run / "scratch" / "checkpoint_best.safetensors").read_bytes()
    for name in ("coarse-unet", "abdomen-ct", "liver-ct"):
        assert name.encode() in checkpoint


def test_its_metric_measures_a_shift_between_its_sites(beside: CleanEnvironment, run: Path) -> None:
    ends = ("--src", "mod:ct,site:portal", "--dst", "mod:ct,site:arterial")
    words = ("--metrics", "histogram-overlap", "--no-attribute", "--json", "--quiet")
    shown = beside.medtl("shift", "liver-ct", *ends, *words, "--out", beside.folder / "shift")
    row = json.loads(shown.stdout)[0]
    assert row["metric"] == "histogram-overlap" and row["synthetic"] is True
    assert 0 < row["value"] <= 1 and row["p"] < 0.05  # noise and contrast differ


def test_it_disappears_without_a_trace(tmp_path: Path, run: Path) -> None:
    clean = CleanEnvironment.create(tmp_path / "clean")
    files, components = sorted(clean.packages.rglob("*")), clean.components()
    clean.install(EXAMPLE)
    assert clean.components() != components
    clean.uninstall("medtl-liver-ct")
    assert sorted(clean.packages.rglob("*")) == files
    assert clean.components() == components
    told = clean.medtl("evaluate", run, code=2).stderr
    assert "needs a plugin that is not in use here: unknown network 'coarse-unet'" in told
    assert told.startswith("error: ") and told.count("\n") == 1
