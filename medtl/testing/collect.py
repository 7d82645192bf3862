"""From a plugin to its checks: a module of this package per kind of component, named as it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from medtl.errors import ConfigError, nearest
from medtl.plugins.catalog import GROUP, Catalog, build_catalog
from medtl.plugins.loader import (
    COMPONENT_KINDS,
    Offer,
    PluginError,
    canonical,
    load_plugin,
)
from medtl.plugins.probe import refuse_fatal
from medtl.testing import components, plugins
from medtl.testing.check import Check, CheckFailed, Tried, name_of, promise_of
from medtl.testing.find import Found, find

#: Kind of what is no component: the plugin itself.
PLUGIN = "plugin"


def checks(plugin: str | Path | ModuleType) -> Iterator[Check]:
    """Every check of a plugin, which is named as it is installed, or given as the module that its
    entry point names, or as a source tree (a folder with a ``pyproject.toml``).

    A plugin that is broken has one check, which fails and says why.

    Raises:
        UnknownNameError: no plugin of this name is installed.
        ConfigError: a source tree without a plugin.
    """
    for found in find(plugin):
        yield from _checks_of(found)


def parametrize_with_checks(
    plugin: str | Path | ModuleType, *, expected_failures: Mapping[str, str] | None = None
) -> Any:
    """A decorator for a pytest function of one argument, ``check``: it runs once per check.

    ``expected_failures``: "component/check-name" -> why it fails; such a check must fail (strict
    xfail). Raises ConfigError for one that is no check of this plugin, and what :func:`checks`
    does.
    """
    import pytest

    known = list(checks(plugin))
    expected = dict(expected_failures or {})
    _check_known(expected, known)
    parameters = []
    for check in known:
        reason = expected.get(check.key, expected.get(str(check)))
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
        parameters.append(pytest.param(check, id=str(check), marks=marks))
    return pytest.mark.parametrize("check", parameters)


def kind_checks(kind: str) -> tuple[Callable[[Tried], None], ...]:
    """The checks of a kind of component, as :data:`medtl.plugins.loader.COMPONENT_KINDS` names
    it."""
    return (*checks_in(components), *checks_in(import_module(f"medtl.testing.{kind}")))


def checks_in(module: ModuleType) -> tuple[Callable[[Any], None], ...]:
    """A module's checks: its public functions from a component, or a plugin, to None, in order."""
    signatures = (["Tried", "None"], ["Found", "None"])
    own = [value for value in vars(module).values() if isinstance(value, FunctionType)]
    return tuple(
        function
        for function in own
        if function.__module__ == module.__name__
        and not function.__name__.startswith("_")
        and list(function.__annotations__.values()) in signatures
    )


def _checks_of(found: Found) -> Iterator[Check]:
    try:
        with found.importable():
            refuse_fatal(found.point)
            offered = load_plugin(found.point)
    except PluginError as error:
        yield Check(found.name, PLUGIN, found.name, "loads", "", partial(_broken, str(error)))
        return
    for function in checks_in(plugins):
        yield _check(found, PLUGIN, found.name, function, found)
    for kind, component in _each(offered):
        tried = Tried(found, COMPONENT_KINDS[kind], component, partial(_catalog, found))
        for own in kind_checks(kind):
            yield _check(found, COMPONENT_KINDS[kind], canonical(component.name), own, tried)


def _broken(reason: str) -> None:
    raise CheckFailed(reason)


def _each(offered: Offer) -> Iterable[tuple[str, Any]]:
    return [(kind, one) for kind in COMPONENT_KINDS for one in offered.get(kind, {}).values()]


def _check(
    found: Found, kind: str, component: str, function: Callable[[Any], None], subject: Any
) -> Check:
    def run() -> None:
        try:
            with found.importable():
                function(subject)
        except SystemExit as stop:
            raise CheckFailed(
                f"it called sys.exit({stop.code!r}); let a component raise an error, and never end "
                "the program"
            ) from stop

    return Check(found.name, kind, component, name_of(function), promise_of(function), run)


@cache
def _catalog(found: Found) -> Catalog:
    """What is installed, with the plugin in place of the one that has its name."""
    installed = entry_points(group=GROUP)
    others = [point for point in installed if canonical(point.name) != found.name]
    return build_catalog([*others, found.point])


def _check_known(expected: Mapping[str, str], known: Iterable[Check]) -> None:
    names = {name for check in known for name in (check.key, str(check))}
    for name in expected:
        if name not in names:
            raise ConfigError(
                f"expected_failures: there is no check {name!r}{nearest(name, names)}"
            )
