"""``medtl plugins check`` and ``medtl.testing`` on plugins that are installed, and that are not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from terminal import run_python

import medtl.plugins.loader
from medtl.errors import ConfigError, UnknownNameError
from medtl.plugins import builtin
from medtl.plugins.catalog import GROUP, build_catalog
from medtl.testing import checks, outcome, parametrize_with_checks
from medtl.testing.plugins import heavy_after

PROJECT = '[project]\nname = "medtl-{name}"\n[project.entry-points."medtl.plugins"]\n'
PLUGIN = """
from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_shift_metrics():
    return [Component("mean-gap-{n}", "medtl_kit{n}.metric:mean_gap", "distance of the means")]
"""
METRIC = """
import numpy as np

from medtl.shift.contract import ShiftMetric


def mean_gap():
    def prepare(rows):
        def score(source_RU, target_RU):
            sides = zip(source_RU, target_RU, strict=True)
            rows_of = [[rows.values_NF[one[rows.unit_N]] for one in pair] for pair in sides]
            return np.array([
                ((x.mean(0) - y.mean(0)) ** 2).sum() if len(x) and len(y) else np.nan
                for x, y in rows_of
            ])
        return score
    return ShiftMetric("mean-gap-{n}", prepare)
"""
MakeTree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> MakeTree:
    """``tree(n, src, plugin, metric)``: a source tree with a plugin of its own package."""

    def make(
        n: str, src: str = ".", plugin: str = PLUGIN, metric: str = METRIC, head: str = ""
    ) -> Path:
        folder = tmp_path / f"medtl-kit{n}"
        package = folder / src / f"medtl_kit{n}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(head + plugin.replace("{n}", n))
        (package / "metric.py").write_text(metric.replace("{n}", n))
        project = PROJECT.format(name=n) + f'kit{n} = "medtl_kit{n}.plugin"\n'
        (folder / "pyproject.toml").write_text(project)
        return folder

    return make


def failing(plugin: object) -> dict[str, str]:
    found = {str(check): outcome(check) for check in checks(plugin)}  # type: ignore[arg-type]
    return {name: reason for name, reason in found.items() if reason}


@pytest.mark.parametrize(("n", "src"), [("a", "."), ("b", "src")])
def test_source_tree_is_checked_without_being_installed(tree: MakeTree, n: str, src: str) -> None:
    path = tree(n, src)
    before = list(sys.path)
    assert failing(path) == {}
    names = [str(check) for check in checks(str(path / "pyproject.toml"))]
    assert f"plugin/kit{n}/listing-imports-nothing-heavy" in names
    assert f"shift-metric/mean-gap-{n}/order-of-rows-does-not-matter" in names
    assert len(names) == len(set(names))
    assert sys.path == before


def test_heavy_import_in_a_listing_is_caught(tree: MakeTree) -> None:
    found = failing(tree("c", head="import numpy\n"))
    assert list(found) == ["plugin/kitc/listing-imports-nothing-heavy"]
    assert "imports numpy; import it only in the modules" in found[next(iter(found))]


def test_plugin_that_offers_nothing_is_caught(tree: MakeTree) -> None:
    found = failing(tree("d", plugin="PLUGIN_API = 1\n"))
    assert "offers nothing; implement a hook" in found["plugin/kitd/loads"]


def test_name_of_another_plugin_is_caught(tree: MakeTree) -> None:
    path = tree("e")
    project = (path / "pyproject.toml").read_text().replace("kite =", "brats =")
    (path / "pyproject.toml").write_text(project)
    found = failing(path)
    assert "is called brats too" in found["plugin/brats/its-name-is-free"]


def test_broken_plugin_has_one_check_that_says_why(tree: MakeTree) -> None:
    (check,) = checks(tree("f", plugin="import no_such_module"))
    assert str(check) == "plugin/kitf/loads"
    assert "no_such_module" in outcome(check)


def test_what_a_component_raises_is_told_with_its_place(tree: MakeTree) -> None:
    metric = METRIC.replace("return score", "raise KeyError('gone')")
    found = failing(tree("g", metric=metric))
    reason = found["shift-metric/mean-gap-g/rows-are-left-as-they-are"]
    assert reason.startswith("KeyError: 'gone'") and "metric.py:16" in reason


def test_module_may_be_given_instead_of_a_name() -> None:
    by_module = [str(check) for check in checks(builtin)]
    assert by_module == [str(check) for check in checks("core")]


def test_unknown_names_and_trees_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'unet3d'"):
        list(checks("unet-3d"))
    with pytest.raises(ConfigError, match=r"pyproject\.toml: no such file"):
        list(checks(tmp_path))
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match="names no plugin; write"):
        list(checks(tmp_path))
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(ConfigError, match="cannot be read"):
        list(checks(tmp_path))
    (tmp_path / "pyproject.toml").write_text(PROJECT + 'x = "medtl_gone.plugin"\n')
    with pytest.raises(ConfigError, match="nor its src holds medtl_gone"):
        list(checks(tmp_path))


def test_expected_failures_are_strict_and_known(tree: MakeTree) -> None:
    metric = METRIC.replace("** 2", "** 2 / y.var()")
    path = tree("h", metric=metric)
    key = "mean-gap-h/sides-change-places-as-declared"
    marked = parametrize_with_checks(path, expected_failures={key: "relative"})
    (parameter,) = [each for each in marked.args[1] if each.marks]
    assert parameter.id == f"shift-metric/{key}"
    assert parameter.marks[0].kwargs == {"reason": "relative", "strict": True}
    with pytest.raises(ConfigError, match=f"did you mean '{key}'"):
        parametrize_with_checks(path, expected_failures={key[:-1]: "misspelt"})


def test_kit_runs_in_a_third_partys_own_tests(tree: MakeTree) -> None:
    path = tree("i")
    (path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "from medtl.testing import parametrize_with_checks\n\n\n"
        "@parametrize_with_checks(Path(__file__).parent)\n"
        "def test_conformance(check):\n    check()\n"
    )
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    done = run_python(*words, code=0, cwd=path)
    assert "16 passed" in done.stdout


def test_kit_is_light_to_import() -> None:
    assert heavy_after("import medtl.testing") == []
    assert heavy_after("import medtl.testing, sys; assert 'pytest' not in sys.modules") == []


def test_older_contract_is_read_and_said_to_be_deprecated(
    tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree("j")
    monkeypatch.syspath_prepend(path)
    point = EntryPoint("kitj", "medtl_kitj.plugin", GROUP)
    monkeypatch.setattr(medtl.plugins.loader, "PLUGIN_API", 2)
    (row,) = build_catalog([point]).plugins
    assert (row.status, row.components) == ("ok", 1)
    assert row.reason.startswith("speaks plugin API 1, read but deprecated; port it to 2")
    found = {check.name: check for check in checks(path) if check.kind == "plugin"}
    assert "port it to 2" in outcome(found["speaks-the-present-contract"])
    monkeypatch.setattr(medtl.plugins.loader, "OLDEST_PLUGIN_API", 2)
    (row,) = build_catalog([point]).plugins
    assert (row.status, row.reason) == (
        "broken",
        "it speaks plugin API 1, medtl 2; upgrade the plugin",
    )


def test_command_prints_a_table_and_counts_what_fails(
    tree: MakeTree, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tree("k"), tree("l", metric=METRIC.replace("np.nan", "0.0"))
    command("plugins", "check", good)
    out, err = capsys.readouterr()
    assert "shift metric mean-gap-k  order-of-rows-does-not-matter" in out and "error" not in err
    command("plugins", "check", bad, "--json", code=2)
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["failed"] == sum(not row["ok"] for row in told["checks"]) > 0
    assert err == f"error: {told['failed']} of {len(told['checks'])} checks failed\n"
    assert set(told["checks"][0]) == {"plugin", "kind", "component", "check", "ok", "reason"}
    command("plugins", "check", bad, "-q", code=2)
    out, err = capsys.readouterr()
    reasons = {row["reason"] for row in told["checks"]} - {""}
    assert len(out.splitlines()) == len(reasons) and all(each in out for each in reasons)
    assert err.count("\n") == 1
    command("plugins", "check", "unet3", code=2)
    assert "did you mean 'unet3d'" in capsys.readouterr().err


def test_component_that_ends_the_program_fails_its_checks(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "quits"\nversion = "1"\n'
        '[project.entry-points."medtl.plugins"]\nquits = "medtl_quits.plugin"\n'
    )
    package = tmp_path / "medtl_quits"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(
        "from medtl import Component, hookimpl\n\nPLUGIN_API = 1\n\n\n@hookimpl\n"
        "def medtl_commands():\n"
        '    return [Component("quit", "medtl_quits.quit:quit", "Ends.")]\n'
    )
    (package / "quit.py").write_text("import sys\n\nsys.exit(0)\n")
    told = [outcome(check) for check in checks(tmp_path)]
    assert any("never end the program" in reason for reason in told)


def test_project_file_of_another_shape_names_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('project = "x"\n')
    with pytest.raises(ConfigError, match="names no plugin"):
        list(checks(tmp_path))
