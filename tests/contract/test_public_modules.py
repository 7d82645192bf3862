"""The plugin contract on one page: what plugins import of medtl."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest

from medtl.plugins.catalog import load_catalog
from medtl.plugins.hookspecs import PUBLIC_MODULES
from medtl.plugins.scaffold import SCAFFOLDS, rendered

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def packages() -> Iterator[tuple[str, str]]:
    """Where a plugin's source lies, and the source."""
    for place in ("plugins/*/medtl_*", "examples/third_party/*/medtl_*"):
        for path in sorted(ROOT.glob(f"{place}/**/*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for kind, modality in product(SCAFFOLDS, ("mr", "ct")):
        for path, text in rendered(f"my-{kind}", kind, modality=modality).items():
            if path.endswith(".py"):
                yield f"{kind}/{modality}/{path}", text


def imported(source: str) -> Iterator[tuple[str, str]]:
    """The modules of medtl that a source imports, with what it takes from each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from ((node.module or "", name.name) for name in node.names)


SOURCES = dict(packages())


@pytest.mark.parametrize("place", SOURCES)
def test_plugins_import_public_modules_alone(place: str) -> None:
    for module, name in imported(SOURCES[place]):
        if module.partition(".")[0] == "medtl":
            assert module in PUBLIC_MODULES, f"{place} imports {module}"
            assert not name.startswith("_"), f"{place} imports {name} of {module}"
            assert not name or hasattr(import_module(module), name), f"{place}: {module}.{name}"


def test_nothing_is_public_that_no_plugin_imports() -> None:
    used = {module for source in SOURCES.values() for module, _ in imported(source)}
    assert set(PUBLIC_MODULES) <= used


def test_the_contract_s_page_lists_the_public_modules() -> None:
    page = (REFERENCE / "contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(medtl[\w.]*)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(rows) == PUBLIC_MODULES
    documented = {
        module
        for path in REFERENCE.glob("*.md")
        for module in re.findall(r"(?:automodule|py:module):: (\S+)", path.read_text("utf-8"))
    }
    assert set(PUBLIC_MODULES) <= documented


def test_every_bundled_plugin_is_looked_at() -> None:
    bundled = {row.name for row in load_catalog().plugins if row.distribution == "medtl"} - {"core"}
    assert {name.replace("-", "_") for name in bundled} == {
        place.split("/")[1] for place in SOURCES if place.startswith("plugins/")
    }
