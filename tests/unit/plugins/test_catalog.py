"""The plugin contract: names, isolation of broken plugins, the off switch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from medtl import Component
from medtl.errors import ConfigError, UnknownNameError
from medtl.plugins import builtin, hookspecs
from medtl.plugins.catalog import GROUP, Catalog, build_catalog, load_catalog
from medtl.plugins.loader import COMPONENT_KINDS

HEAD = "from medtl import Component, hookimpl\nPLUGIN_API = 1\n"
GOOD = HEAD + "@hookimpl\ndef medtl_{kind}():\n    return [Component({name!r}, 'os:getcwd', 'x')]\n"

MakePlugin = Callable[[str, str], EntryPoint]


@pytest.fixture
def make_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """``make_plugin(name, source)`` writes a module and returns an entry point to it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path.name.replace("-", "_")

    def make(name: str, source: str) -> EntryPoint:
        module = f"plugin_{folder}_{name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        return EntryPoint(name, module, GROUP)

    return make


def core() -> EntryPoint:
    return EntryPoint("core", "medtl.plugins.builtin", GROUP)


def good(kind: str, name: str) -> str:
    return GOOD.format(kind=kind, name=name)


def reason(catalog: Catalog, name: str) -> str:
    (row,) = [row for row in catalog.plugins if row.name == name]
    assert row.status == "broken"
    assert row.components == 0
    assert "\n" not in row.reason
    return row.reason


def test_bundled_plugins_offer_the_main_job() -> None:
    catalog = load_catalog()
    assert {row.name: row.status for row in catalog.plugins}.items() >= {
        "core": "ok",
        "brats": "ok",
        "unet3d": "ok",
        "modality-transfer": "ok",
    }.items()
    assert catalog.strategies["modality-transfer"].name == "modality-transfer"
    assert "brats" in catalog.tasks


def test_every_bundled_component_loads() -> None:
    for kind, registry in load_catalog().registries().items():
        for full_name, component in registry.items():
            if kind != "commands":
                assert callable(component.load()), full_name


BROKEN = {
    "import error": ("import no_such_module_at_all", "no_such_module_at_all"),
    "syntax error": ("def broken(:", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit"),
    "odd exception": ("raise BaseException('strange')", "strange"),
    "no API": ("from medtl import hookimpl", "states no PLUGIN_API"),
    "old API": ("PLUGIN_API = 0", "plugin API 0"),
    "new API": ("PLUGIN_API = 2", "upgrade medtl"),
    "API is no number": ("PLUGIN_API = '1'", "states no PLUGIN_API"),
    "misspelt hook": (good("taks", "a"), "did you mean 'medtl_tasks'"),
    "unmarked hook": (
        "PLUGIN_API = 1\ndef medtl_tasks():\n    return []",
        "write @hookimpl above it",
    ),
    "misspelt and unmarked": ("PLUGIN_API = 1\ndef medtl_netwrks():\n    return []", "networks"),
    "hook with arguments": (HEAD + "@hookimpl\ndef medtl_tasks(config):\n    return []", "config"),
    "hook raises": (HEAD + "@hookimpl\ndef medtl_tasks():\n    return 1 / 0", "ZeroDivisionError"),
    "hook exits": (HEAD + "@hookimpl\ndef medtl_tasks():\n    raise SystemExit", "SystemExit"),
    "hook returns None": (HEAD + "@hookimpl\ndef medtl_tasks():\n    pass", "NoneType"),
    "hook returns text": (HEAD + "@hookimpl\ndef medtl_tasks():\n    return ['a']", "a str"),
    "colon in a name": (good("tasks", "a:b"), "is not a name"),
    "empty name": (good("tasks", ""), "is not a name"),
    "bad target": (good("tasks", "a").replace("os:getcwd", "os"), "not module:attribute"),
    "twice": (
        HEAD + "@hookimpl\ndef medtl_tasks():\n"
        "    return [Component('a_b', 'os:sep', ''), Component('A-B', 'os:sep', '')]",
        "offers 'a-b' twice",
    ),
    "shadows a command": (good("commands", "Train"), "'train' is a command of medtl"),
}


@pytest.mark.parametrize(("source", "expected"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_is_a_row_with_its_reason_and_others_work(
    make_plugin: MakePlugin, source: str, expected: str
) -> None:
    bad, fine = make_plugin("bad", source), make_plugin("fine", good("tasks", "lungs"))
    catalog = build_catalog([bad, core(), fine])
    assert expected in reason(catalog, "bad")
    assert [row.name for row in catalog.plugins if row.status == "ok"] == ["core", "fine"]
    assert catalog.tasks["lungs"].name == "lungs"
    assert catalog.losses["dice-ce"].name == "dice-ce"


def test_entry_point_to_something_else_than_a_module_is_broken() -> None:
    catalog = build_catalog([EntryPoint("odd", "os:sep", GROUP)])
    assert "is not a module" in reason(catalog, "odd")


def test_interrupt_while_a_plugin_loads_stops_everything(make_plugin: MakePlugin) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_catalog([make_plugin("slow", "raise KeyboardInterrupt")])


def test_what_a_plugin_prints_stays_off_stdout(
    make_plugin: MakePlugin, capsys: pytest.CaptureFixture[str]
) -> None:
    build_catalog([make_plugin("noisy", "print('hello')\n" + good("tasks", "a"))])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_names_ignore_case_and_kind_of_dash(make_plugin: MakePlugin) -> None:
    tasks = build_catalog([make_plugin("my_site", good("tasks", "Head_Neck"))]).tasks
    for name in ("head-neck", "HEAD_NECK", "Head-Neck", "my-site:head-neck", "My_Site:Head_neck"):
        assert tasks[name].name == "Head_Neck"
        assert tasks.full_name(name) == "my-site:head-neck"
        assert name in tasks
    assert list(tasks) == ["my-site:head-neck"]


def test_name_of_two_plugins_needs_its_plugin(make_plugin: MakePlugin) -> None:
    points = [make_plugin(name, good("networks", "unet")) for name in ("site-a", "site-b")]
    networks = build_catalog(points).networks
    assert len(networks) == 2
    with pytest.raises(ConfigError, match="ambiguous; write one of site-a:unet, site-b:unet"):
        networks["unet"]
    assert networks["site-b:unet"].name == "unet"


def test_unknown_name_suggests_the_nearest() -> None:
    strategies = build_catalog([core()]).strategies
    with pytest.raises(UnknownNameError, match="did you mean 'fine-tune'"):
        strategies["fine_tun"]
    with pytest.raises(UnknownNameError, match="did you mean 'core:scratch'"):
        strategies["core:scrach"]
    assert "nothing" not in strategies
    assert strategies.get("nothing") is None


def test_unknown_name_tells_of_plugins_not_in_use(make_plugin: MakePlugin) -> None:
    catalog = build_catalog([make_plugin("lungs", "import nowhere_to_be_found")])
    with pytest.raises(UnknownNameError, match=r"not in use: lungs \(broken\)"):
        catalog.tasks["lungs"]


def test_disabled_plugin_is_not_even_imported(
    make_plugin: MakePlugin, capsys: pytest.CaptureFixture[str]
) -> None:
    point = make_plugin("my_site", "print('imported')\n" + good("tasks", "a"))
    catalog = build_catalog([point, core()], disabled=["MY-SITE", ""])
    assert [(row.name, row.status) for row in catalog.plugins] == [
        ("core", "ok"),
        ("my-site", "disabled"),
    ]
    assert "a" not in catalog.tasks
    assert capsys.readouterr().err == ""


def test_second_plugin_of_a_name_is_broken_and_takes_nothing(make_plugin: MakePlugin) -> None:
    first = make_plugin("site", good("tasks", "a"))
    second = EntryPoint("Site", make_plugin("other", good("tasks", "b")).value, GROUP)
    catalog = build_catalog([first, second])
    assert sorted(row.status for row in catalog.plugins) == ["broken", "ok"]
    assert len(catalog.tasks) == 1


def test_registries_are_those_of_the_hooks() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("medtl_")}
    assert hooks == {f"medtl_{kind}" for kind in COMPONENT_KINDS}
    assert set(load_catalog().registries()) == set(COMPONENT_KINDS)


def test_core_lists_its_own_commands() -> None:
    assert build_catalog([core()]).commands["train"] in builtin.COMMANDS
    assert all(isinstance(command, Component) for command in builtin.COMMANDS)


def test_former_names_find_the_component_and_say_the_new_one(make_plugin: MakePlugin) -> None:
    source = HEAD + (
        "@hookimpl\ndef medtl_networks():\n"
        "    return [Component('new', 'os:getcwd', 'x', {'old': 'new', 'head=a': 'head=b'})]\n"
    )
    networks = build_catalog([make_plugin("site", source)]).networks
    assert networks.full_name("old") == networks.full_name("site:OLD") == "site:new"
    assert list(networks) == ["site:new"]
    assert networks.notices("new", {"head": "b"}) == []
    assert networks.notices("old", {"head": "a"}) == [
        "'old' is now called 'new'; the old name still works",
        "'head=a' is now called 'head=b'; the old name still works",
    ]


def test_renamed_must_be_a_table(make_plugin: MakePlugin) -> None:
    source = HEAD + "@hookimpl\ndef medtl_tasks(): return [Component('a', 'os:sep', 'x', 'b')]\n"
    assert "old words to new ones" in reason(build_catalog([make_plugin("site", source)]), "site")
