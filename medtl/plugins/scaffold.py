"""From a name and a kind to a plugin package on disk: the files are templates, filled in.

Light to import; no component is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template

from medtl import PLUGIN_API, __version__
from medtl.errors import ConfigError, RunError, UnknownNameError
from medtl.plugins.catalog import Catalog
from medtl.plugins.loader import canonical
from medtl.runtime.files import new_folder, unwritable

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


#: Longer names would fill the lines of the code.
LONGEST_NAME = 24


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A kind of component that a new plugin may offer. ``target``: the file and what is in it."""

    hook: str
    target: str
    summary: str


SCAFFOLDS: Mapping[str, Scaffold] = {
    "task": Scaffold(
        "medtl_tasks",
        "task:${class}Task",
        "an organ and the lesion in it, from a folder of NIfTI files per case",
    ),
    "network": Scaffold(
        "medtl_networks",
        "network:build_$module",
        "a small residual U-Net, in 2-D and 3-D",
    ),
    "strategy": Scaffold(
        "medtl_strategies",
        "strategy:plan_$module",
        "train a new head, then every block (Kumar et al. 2022)",
    ),
    "shift-metric": Scaffold(
        "medtl_shift_metrics",
        "metric:${module}_metric",
        "mean distance of the deciles of the features",
    ),
    "transform": Scaffold(
        "medtl_transforms",
        "preset:${module}_preset",
        "MR of the body; augmented without mirroring",
    ),
}


def write_plugin(name: str, kind: str, parent: Path, catalog: Catalog) -> Path:
    """Write the package ``medtl-NAME`` into ``parent`` and return its folder.

    Raises:
        UnknownNameError: no such kind.
        ConfigError: ``name`` is no name for a plugin, or is taken.
        RunError: the folder is there already, or cannot be written; nothing is left behind.
    """
    if canonical(kind) not in SCAFFOLDS:
        raise UnknownNameError("kind of plugin", kind, SCAFFOLDS)
    checked = check_name(name, catalog)
    folder = parent / f"medtl-{checked}"
    if folder.exists() or folder.is_symlink():
        raise RunError(f"{folder}: is there already; remove it, or take another name or --out")
    try:
        with new_folder(folder) as partial:
            for path, text in rendered(checked, canonical(kind)).items():
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                (partial / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def check_name(name: str, catalog: Catalog) -> str:
    """The canonical name; ConfigError for one that cannot be a plugin's, or that is taken."""
    wanted = canonical(name)
    if wanted.startswith("medtl-"):
        raise ConfigError(f"{name!r}: medtl- is put before the name; write {wanted[6:]!r}")
    if not _NAME.fullmatch(wanted) or len(wanted) > LONGEST_NAME:
        raise ConfigError(
            f"{name!r} cannot be the name of a plugin; write letters, digits and dashes, a letter "
            f"first, {LONGEST_NAME} at most, for example liver-ct"
        )
    if wanted in {row.name for row in catalog.plugins}:
        raise ConfigError(f"a plugin {wanted!r} is installed already; see `medtl plugins list`")
    for kind, registry in catalog.registries().items():
        if wanted in registry:
            raise ConfigError(
                f"{wanted!r} is taken, see `medtl list {kind.replace('_', '-')}`; choose a new name"
            )
    package = f"medtl_{wanted.replace('-', '_')}"
    if find_spec(package) is not None:
        raise ConfigError(f"a Python package {package} is installed already; choose a new name")
    return wanted


def rendered(name: str, kind: str) -> dict[str, str]:
    """Path in the package's folder -> text; ``name`` and ``kind`` are canonical."""
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "kind": kind.replace("-", " "),
        "summary": SCAFFOLDS[kind].summary,
        "hook": SCAFFOLDS[kind].hook,
        "api": str(PLUGIN_API),
        "version": __version__,
    }
    words["target"] = Template(SCAFFOLDS[kind].target).substitute(words)
    templates = files("medtl.plugins") / "templates"
    for part in ("about", "use", "change"):
        words[part] = _filled(templates / kind / f"{part}.md.tmpl", words).strip()
    package = f"medtl_{module}"
    sources = {
        "pyproject.toml": templates / "pyproject.toml.tmpl",
        "README.md": templates / "README.md.tmpl",
        ".gitignore": templates / "gitignore.tmpl",
        f"{package}/__init__.py": templates / "init.py.tmpl",
        f"{package}/plugin.py": templates / "plugin.py.tmpl",
    }
    for template in (templates / kind).iterdir():
        if template.name.endswith(".py.tmpl"):
            sources[f"{package}/{template.name.removesuffix('.tmpl')}"] = template
    sources[f"tests/test_{module}.py"] = sources.pop(f"{package}/test.py")
    texts = {path: _filled(template, words) for path, template in sources.items()}
    return {**texts, f"{package}/py.typed": ""}


def _filled(template: Traversable, words: Mapping[str, str]) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(words)
