"""Loading one plugin: what is wrong with it becomes a reason in one line, never a crash."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import EntryPoint
from inspect import isroutine
from types import ModuleType
from typing import Any

import pluggy

from medtl import OLDEST_PLUGIN_API, PLUGIN_API, Component
from medtl.errors import near_or_known
from medtl.plugins import builtin, hookspecs

#: Kind of component, as the catalog's registries are called -> what one of them is called.
COMPONENT_KINDS = {
    "tasks": "task",
    "networks": "network",
    "initialisers": "initialiser",
    "transforms": "transforms preset",
    "harmonisers": "harmoniser",
    "strategies": "strategy",
    "losses": "loss",
    "features": "feature extractor",
    "shift_metrics": "shift metric",
    "commands": "command",
}


_HOOKS = {f"medtl_{kind}": kind for kind in COMPONENT_KINDS}


NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


_TARGET = re.compile(r"[\w.]+:[A-Za-z_]\w*")


#: Components of one plugin: kind -> canonical name -> component.
Offer = dict[str, dict[str, Component]]


class PluginError(Exception):
    """Why a plugin is broken, in one line."""


def canonical(name: str) -> str:
    """``-``, ``_`` and letter case make no difference in names."""
    return name.strip().lower().replace("_", "-")


def load_plugin(point: EntryPoint) -> Offer:
    """Import the plugin behind an entry point and ask its hooks for components.

    Raises:
        PluginError: it breaks the contract of :mod:`medtl.plugins.hookspecs` in any way.
    """
    with _stdout_on_stderr(), _blaming(point.value):
        module = _import(point)
        _check_api(module, point.value)
        _check_hook_names(module)
        return _components(module, canonical(point.name))


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Whatever a plugin prints, by any way, must not get into machine-readable output."""
    streams = [one for one in (sys.stdout, sys.__stdout__) if one is not None]
    with suppress(OSError, ValueError):  # closed, or a reader that is gone
        for stream in streams:
            stream.flush()
    try:
        kept = os.dup(1)
    except OSError:
        with redirect_stdout(sys.stderr):
            yield
        return
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
        with suppress(OSError, ValueError):
            for stream in streams:
                stream.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def outdated(point: EntryPoint) -> str:
    """The notice for a loaded plugin of an older contract that is still supported; else empty."""
    api = sys.modules[point.module].PLUGIN_API
    if api == PLUGIN_API:
        return ""
    return f"speaks plugin API {api}, read but deprecated; port it to {PLUGIN_API}, see CHANGELOG"


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever goes wrong within is the plugin's fault; it may even call ``sys.exit()``."""
    try:
        yield
    except (KeyboardInterrupt, PluginError):
        raise
    except BaseException as error:
        reason = f"{what}: {type(error).__name__}: {error}"
        raise PluginError(" ".join(reason.split())) from error


def _import(point: EntryPoint) -> ModuleType:
    with _blaming(f"{point.value} cannot be imported"):
        module = point.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"its entry point names {point.value}, which is not a module")
    return module


def _check_api(module: ModuleType, where: str) -> None:
    api = getattr(module, "PLUGIN_API", None)
    if type(api) is not int:
        raise PluginError(f"{where} states no PLUGIN_API; write `PLUGIN_API = {PLUGIN_API}` in it")
    if not OLDEST_PLUGIN_API <= api <= PLUGIN_API:
        old = "the plugin" if api < PLUGIN_API else "medtl"
        raise PluginError(f"it speaks plugin API {api}, medtl {PLUGIN_API}; upgrade {old}")


def _check_hook_names(module: ModuleType) -> None:
    for name, member in vars(module).items():
        options = getattr(member, "medtl_impl", None) if isroutine(member) else None
        marked = isinstance(options, dict)
        if not marked and not (name.startswith("medtl_") and isroutine(member)):
            continue
        hook = (options.get("specname") if isinstance(options, dict) else None) or name
        if hook not in _HOOKS:
            raise PluginError(f"unknown hook {hook!r}; {near_or_known(hook, _HOOKS)}")
        if not marked:
            raise PluginError(f"hook {name!r} is not marked; write @hookimpl above it")


def _components(module: ModuleType, plugin: str) -> Offer:
    manager = pluggy.PluginManager("medtl")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(f"hook {error}".split())) from error
    offered: Offer = {}
    for caller in manager.get_hookcallers(module) or ():
        kind = offered.setdefault(_HOOKS[caller.name], {})
        for implementation in caller.get_hookimpls():
            for component in _call(caller.name, implementation.function):
                name = _checked_name(component, caller.name)
                if name in kind:
                    raise PluginError(f"{caller.name} offers {name!r} twice")
                kind[name] = component
    if plugin != "core":
        _check_commands(offered.get("commands", {}))
    return offered


def _call(hook: str, function: Any) -> list[Any]:
    with _blaming(f"{hook} failed"):
        result = function()
    if not isinstance(result, list | tuple):
        raise PluginError(f"{hook} returns {type(result).__name__}, not a list of Components")
    return list(result)


def _checked_name(component: Any, hook: str) -> str:
    if not isinstance(component, Component):
        raise PluginError(f"{hook} returns a {type(component).__name__} among its Components")
    fields = (component.name, component.target, component.summary)
    if not all(isinstance(value, str) for value in fields):
        raise PluginError(f"{hook}: name, target and summary of {component} must be text")
    if not isinstance(component.renamed, Mapping):
        raise PluginError(f"{hook}: renamed of {component.name} must map old words to new ones")
    name = canonical(component.name)
    if not NAME.fullmatch(name):
        raise PluginError(f"{hook}: {component.name!r} is not a name (letters, digits, - _ .)")
    if not _TARGET.fullmatch(component.target):
        raise PluginError(f"{hook}: target {component.target!r} of {name} is not module:attribute")
    return name


def _check_commands(commands: Mapping[str, Component]) -> None:
    for reserved in builtin.COMMANDS:
        if reserved.name in commands:
            raise PluginError(f"medtl_commands: {reserved.name!r} is a command of medtl itself")
