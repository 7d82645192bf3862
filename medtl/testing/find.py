"""Which plugin is meant: one that is installed, a module, or a source tree that need not be."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from medtl.errors import ConfigError, UnknownNameError
from medtl.plugins.catalog import GROUP
from medtl.plugins.loader import canonical
from medtl.runtime.files import from_home

_EXAMPLE = f'[project.entry-points."{GROUP}"] my-plugin = "medtl_my_plugin.plugin"'


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin to be checked. ``root``: the folder its package lies in, if it is a source tree."""

    point: EntryPoint
    root: Path | None = None

    @property
    def name(self) -> str:
        return canonical(self.point.name)

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Within it, the plugin's package can be imported."""
        if self.root is None:
            yield
            return
        sys.path.insert(0, str(self.root))
        try:
            yield
        finally:
            sys.path.remove(str(self.root))


def find(plugin: str | Path | ModuleType) -> tuple[Found, ...]:
    """The plugin of this name, this module, or those that a source tree names.

    Raises:
        UnknownNameError: no installed plugin has the name.
        ConfigError: a source tree that names no plugin, or does not hold the one it names.
    """
    installed = {canonical(point.name): point for point in entry_points(group=GROUP)}
    if isinstance(plugin, ModuleType):
        named = [point for point in installed.values() if point.value == plugin.__name__]
        package = plugin.__name__.partition(".")[0].removeprefix("medtl_")
        point = EntryPoint(canonical(package), plugin.__name__, GROUP)
        return (Found(named[0] if named else point),)
    if isinstance(plugin, str) and canonical(plugin) in installed:
        return (Found(installed[canonical(plugin)]),)
    path = from_home(plugin)
    if isinstance(plugin, str) and not path.exists() and os.sep not in plugin:
        raise UnknownNameError("plugin", plugin, installed)
    return _in_tree(path)


def _in_tree(path: Path) -> tuple[Found, ...]:
    project = path if path.name == "pyproject.toml" else path / "pyproject.toml"
    folder = project.parent.resolve()
    named = _entry_points(project)
    return tuple(
        Found(EntryPoint(name, value, GROUP), _root(folder, value)) for name, value in named.items()
    )


def _entry_points(project: Path) -> Mapping[str, str]:
    try:
        content = tomllib.loads(project.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{project}: no such file; name a plugin that is installed (medtl plugins list), or a "
            "folder with its pyproject.toml"
        ) from error
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{project}: cannot be read ({error})") from error
    project_table = content.get("project")
    groups = project_table.get("entry-points") if isinstance(project_table, dict) else None
    named = groups.get(GROUP, {}) if isinstance(groups, dict) else {}
    if not isinstance(named, dict) or not named:
        raise ConfigError(f"{project}: names no plugin; write {_EXAMPLE}")
    return {str(name): str(value) for name, value in named.items()}


def _root(folder: Path, module: str) -> Path:
    package = module.partition(".")[0].partition(":")[0]
    for root in (folder, folder / "src"):
        if (root / package).is_dir() or (root / f"{package}.py").is_file():
            _check_not_elsewhere(root, package)
            return root
    raise ConfigError(
        f"{folder / 'pyproject.toml'} names {module}, but neither {folder.name} nor its src holds "
        f"{package}; correct it, or install the plugin and check it by name"
    )


def _check_not_elsewhere(root: Path, package: str) -> None:
    """What was imported from another place would be checked instead."""
    places = [str(place) for place in getattr(sys.modules.get(package), "__path__", [])]
    if places and str(root / package) not in map(os.path.realpath, places):
        raise ConfigError(f"{package} is imported from {places[0]} already, not from {root}")
