"""What a plugin itself must keep. That it loads is known when its checks are listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

from medtl.plugins.catalog import GROUP
from medtl.plugins.loader import canonical, load_plugin, outdated
from medtl.testing.check import require
from medtl.testing.find import Found

#: Too slow to import for a listing.
HEAVY = (
    *("torch", "monai", "nibabel", "itk", "pydicom", "highdicom", "sklearn", "scipy", "numpy"),
    *("pydantic", "pydantic_core", "lightning_fabric", "lightning", "matplotlib", "yaml"),
)


def loads(plugin: Found) -> None:
    """It states the PLUGIN_API it speaks, and offers components by known hooks."""
    offers, remedy = any(load_plugin(plugin.point).values()), "medtl/plugins/hookspecs.py"
    require(offers, f"{plugin.point.value} offers nothing; implement a hook, see {remedy}")


def speaks_the_present_contract(plugin: Found) -> None:
    """Its PLUGIN_API is that of this medtl, not an older one that is still read."""
    load_plugin(plugin.point)
    problem = outdated(plugin.point)
    require(not problem, f"{plugin.point.value} {problem}")


def its_name_is_free(plugin: Found) -> None:
    """No other plugin has its name."""
    for point in entry_points(group=GROUP):
        taken = canonical(point.name) == plugin.name and point.value != plugin.point.value
        other = f"a plugin of {point.dist.name if point.dist else 'another package'}"
        require(not taken, f"{other} is called {plugin.name} too; rename the entry point")


def listing_imports_nothing_heavy(plugin: Found) -> None:
    """``medtl list`` loads every plugin, so its module imports no torch, numpy or the like."""
    loaded = heavy_after(
        "from importlib.metadata import EntryPoint\n"
        "from medtl.plugins.loader import load_plugin\n"
        f"load_plugin(EntryPoint({plugin.point.name!r}, {plugin.point.value!r}, {GROUP!r}))"
    )
    imports = f"{plugin.point.value} imports {', '.join(loaded)}"
    require(not loaded, f"{imports}; import it only in the modules of its components' targets")


def heavy_after(code: str) -> list[str]:
    """Which of :data:`HEAVY` are imported once ``code`` has run in a Python of its own."""
    report = f"import sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise AssertionError(lines[-1] if lines else f"exit code {result.returncode}")
    loaded: list[str] = json.loads(result.stdout.splitlines()[-1])
    return loaded
