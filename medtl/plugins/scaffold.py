"""From a name and a kind to a plugin package on disk: the files are templates, filled in.

Light to import; no component is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
        "$IMAGES of the body; augmented without mirroring",
    ),
}


#: Modality -> what differs in a task or a preset for its images.
_MODALITIES: Mapping[str, Mapping[str, str]] = {
    "mr": {
        "IMAGES": "MR",
        "constants": "IMAGE, LABEL, MR",
        "described": "MR of one contrast",
        "imported": "Defaults, Task",
        "measured": "",
        "light": "brain-mr-light",
        "levels": "BACKGROUND: 100.0, ORGAN: 300.0, LESION: 500.0",
        "scaled": "clipped, z-scored and resampled",
        "windowed": "",
    },
    "ct": {
        "IMAGES": "CT",
        "constants": "CT, IMAGE, LABEL",
        "described": "CT",
        "imported": "Advice, Defaults, Task",
        "measured": "from medtl.data.tasks.fingerprint import window\n",
        "light": "ct",
        "levels": "BACKGROUND: -100.0, ORGAN: 60.0, LESION: 160.0",
        "scaled": "scaled by one window and resampled",
        "windowed": ", windowed=True",
    },
}


#: What a name that says CT has in it.
_SAYS_CT = {"ct", "cbct", "cta", "pet-ct"}


def write_plugin(
    name: str, kinds: str | Sequence[str], parent: Path, catalog: Catalog, modality: str = ""
) -> Path:
    """Write the package ``medtl-NAME`` into ``parent`` and return its folder.

    Args:
        kinds: one or more; each is a component of its own, called ``name``.
        modality: "mr" or "ct"; empty: as the name says, else "mr".

    Raises:
        UnknownNameError: no such kind or modality.
        ConfigError: ``name`` is no name for a plugin, or is taken.
        RunError: the folder is there already, or cannot be written; nothing is left behind.
    """
    wanted = [kinds] if isinstance(kinds, str) else list(dict.fromkeys(kinds))
    for kind in wanted:
        if canonical(kind) not in SCAFFOLDS:
            raise UnknownNameError("kind of plugin", kind, SCAFFOLDS)
    checked = check_name(name, catalog)
    images = canonical(modality) or ("ct" if _SAYS_CT & set(checked.split("-")) else "mr")
    if images not in _MODALITIES:
        raise UnknownNameError("modality", modality, _MODALITIES)
    folder = parent / f"medtl-{checked}"
    if folder.exists() or folder.is_symlink():
        raise RunError(f"{folder}: is there already; remove it, or take another name or --out")
    try:
        with new_folder(folder) as partial:
            texts = rendered(checked, *map(canonical, wanted), modality=images)
            for path, text in texts.items():
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


def rendered(name: str, *kinds: str, modality: str = "mr") -> dict[str, str]:
    """Path in the package's folder -> text; ``name`` and ``kinds`` are canonical."""
    module = name.replace("-", "_")
    templates = files("medtl.plugins") / "templates"
    shared = {
        "name": name,
        "module": module,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "api": str(PLUGIN_API),
        "version": __version__,
        "modality": modality,
        **_MODALITIES[modality],
    }
    words = {kind: _words_of(kind, templates, shared) for kind in kinds}
    single = len(kinds) == 1
    shared["tests"] = f"`tests/test_{module}.py`" if single else "`tests/`"
    shared["summary"] = "; ".join(own["summary"] for own in words.values())
    named = " and ".join(kind.replace("-", " ") for kind in kinds)
    shared["kind"] = named if single else "component of each kind"
    shared["titled"] = shared["summary"] if single else f"A {named}"
    shared["hooks"] = "".join(_filled(templates / "hook.tmpl", own) for own in words.values())
    for part in ("about", "use", "change"):
        texts = {kind: _filled(templates / kind / f"{part}.md.tmpl", words[kind]) for kind in kinds}
        headed = part == "change" and not single
        shared[part] = "\n\n".join(
            f"The {kind}:\n\n{text.strip()}" if headed else text.strip()
            for kind, text in texts.items()
        )
    texts = _texts_of_package(templates, shared)
    package = f"medtl_{module}"
    for kind in kinds:
        for template in (templates / kind).iterdir():
            if template.name.endswith(".py.tmpl"):
                texts[f"{package}/{template.name.removesuffix('.tmpl')}"] = _filled(
                    template, words[kind]
                )
        tests = f"test_{module}" if single else f"test_{module}_{kind.replace('-', '_')}"
        texts[f"tests/{tests}.py"] = texts.pop(f"{package}/test.py")
    return {**texts, f"{package}/py.typed": ""}


def _texts_of_package(templates: Traversable, shared: Mapping[str, str]) -> dict[str, str]:
    """The files that a package has once, whatever its kinds."""
    package = f"medtl_{shared['module']}"
    return {
        path: _filled(templates / f"{source}.tmpl", shared)
        for path, source in {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            ".gitignore": "gitignore",
            f"{package}/__init__.py": "init.py",
            f"{package}/plugin.py": "plugin.py",
        }.items()
    }


def _words_of(kind: str, templates: Traversable, shared: Mapping[str, str]) -> dict[str, str]:
    """What is filled in for one kind of component."""
    scaffold = SCAFFOLDS[kind]
    words = {**shared, "kind": kind.replace("-", " "), "hook": scaffold.hook, "advise": ""}
    words["summary"] = Template(scaffold.summary).substitute(shared)
    words["target"] = Template(scaffold.target).substitute(shared)
    if kind == "task" and shared["modality"] == "ct":
        words["advise"] = _filled(templates / "task" / "advise.tmpl", shared)
    return words


def _filled(template: Traversable, words: Mapping[str, str]) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(words)
