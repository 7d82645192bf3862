"""Imports: no cycles, and a listing imports nothing heavy. The layers are a contract in
pyproject.toml."""

from __future__ import annotations

import ast

import pytest
from places import ROOT

from medtl.testing.plugins import heavy_after

CORE = ROOT / "medtl"
MODULES = {
    ".".join(("medtl", *path.relative_to(CORE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in CORE.rglob("*.py")
}

#: Imported by every listing and by every plugin.py.
LIGHT = [
    "medtl",
    "medtl.errors",
    "medtl.data.modality",
    "medtl.data.case",
    "medtl.transfer.receipt",
    "medtl.data.domain",
    "medtl.data.splits",
    "medtl.runtime.files",
    "medtl.plugins.hookspecs",
    "medtl.plugins.builtin",
    "medtl.plugins.loader",
    "medtl.plugins.catalog",
    "medtl.transfer.strategies.base",
    "medtl.transfer.strategies.finetune",
    "medtl.transfer.strategies.unfreeze",
    "medtl.data.task",
    "medtl.runtime.console",
    "medtl.runtime.cache",
    "medtl.cli.main",
    "medtl.cli.list",
    "medtl.cli.plugins",
    "medtl.testing",
    "medtl.cli.options",
    "medtl.cli.evaluate",
    "medtl.cli.explain",
    "medtl.cli.audit",
    "medtl.audit.request",
    "medtl.cli.predict",
    "medtl.cli.weights",
    "medtl.cli.data",
    "medtl.cli.completion",
    "medtl.cli.completion",
    "medtl.cli.doctor",
    "medtl.api",
    "medtl.runtime.doctor",
]
LISTINGS = (
    ["--help"],
    ["list"],
    ["list", "networks", "--json"],
    ["plugins", "list"],
    ["plugins", "list", "--json"],
)


def imports(module: str) -> set[str]:
    """Modules of this project that ``module`` imports anywhere, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & set(MODULES)) or {node.module}
    return {name for name in found if name.partition(".")[0].startswith("medtl")} - {module}


def test_relative_imports_hide_nothing() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), module


def test_imports_point_one_way() -> None:
    """No module is imported, however indirectly, by one that it imports."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done and module in MODULES:
            for other in imports(module):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_listing_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['medtl', *{arguments}]\n"
        "from medtl.cli.start import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0"
    )
    assert heavy_after(code) == []


def test_light_modules_import_nothing_heavy() -> None:
    assert heavy_after(f"import {', '.join(LIGHT)}") == []


def test_the_options_of_train_need_pydantic_alone() -> None:
    """They are made from TrainConfig, when ``medtl train`` itself is asked for."""
    assert heavy_after("import medtl.cli.train") == ["pydantic", "pydantic_core"]


#: Words that no data can make right.
WRONG = (
    ["train", "brats", "--weights", "x.pth"],
    ["train", "brats", "--folds", "5"],
    ["train", "brats", "--minutes", "5", "--steps", "7"],
    ["train", "brats", "--strategy", "scratch", "--src", "flair"],
    ["train", "brats", "--strategy", "scratch", "--with-control"],
    ["train", "brats", "--set", "weights=x.pth"],
    ["shift", "brats", "--run", "x"],
    ["shift", "brats", "--layer", "stem", "--features", "appearance"],
    ["shift", "brats", "--permutations", "10"],
)


def test_wrong_words_are_refused_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from medtl.cli.start import main\n"
        f"for words in {WRONG}:\n"
        "    sys.argv = ['medtl', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert stop.code == 2, words"
    )
    assert set(heavy_after(code)) <= {"pydantic", "pydantic_core", "yaml"}
