"""The shape of the source tree: small folders, and modules named by nouns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from places import ROOT

MOST_MODULES = 20
#: Of what other programs make, nothing is counted.
OURS = ("medtl", "plugins", "tests", "benchmarks", "examples", "docs")
#: Packages that may end as gerunds do.
KEPT = ("training", "testing")


def modules() -> list[Path]:
    found = [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "_build" not in path.parts]


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(path.parent for path in modules())
    assert len(counts) > 50
    assert {str(folder): n for folder, n in counts.items() if n > MOST_MODULES} == {}


def test_modules_of_the_package_are_named_by_nouns() -> None:
    package = [path.relative_to(ROOT) for path in modules() if path.is_relative_to(ROOT / "medtl")]
    names = {name.removesuffix(".py") for path in package for name in path.parts}
    assert {name for name in names if name.endswith("ing")} == set(KEPT)
