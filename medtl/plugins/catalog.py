"""Entry points -> the Catalog of all components; one broken plugin never breaks the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Literal

from medtl import Component
from medtl.errors import ConfigError, UnknownNameError
from medtl.plugins.loader import (
    COMPONENT_KINDS,
    NAME,
    Offer,
    PluginError,
    canonical,
    load_plugin,
    outdated,
)

GROUP = "medtl.plugins"


@dataclass(frozen=True, slots=True)
class Given(Component):
    """A component whose object exists already: nothing is imported."""

    thing: Any = None

    def load(self) -> Any:
        return self.thing


class Registry(Mapping[str, Component]):
    """Components of one kind by full name, ``plugin:component``; a unique bare name works too."""

    def __init__(
        self,
        kind: str,
        components: Mapping[str, Component],
        missing: str = "",
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        """``kinds``: of what kind components of any registry are, by bare name."""
        self._kind = kind
        self._components = dict(components)
        self._missing = missing
        self._kinds = kinds or {}

    def full_name(self, name: str) -> str:
        """Resolve a bare or full name.

        Raises:
            UnknownNameError: no plugin offers it; the message suggests the nearest.
            ConfigError: several plugins offer it; the message lists the choices.
        """
        matches = self._matches(name)
        if len(matches) > 1:
            choices = ", ".join(sorted(matches))
            raise ConfigError(f"{self._kind} {name!r} is ambiguous; write one of {choices}")
        if not matches and canonical(name) in self._kinds:
            kind = self._kinds[canonical(name)]
            article = "an" if kind[0] in "aeiou" else "a"
            raise ConfigError(f"{name!r} is no {self._kind} but {article} {kind}")
        if not matches:
            known = self if ":" in name else {_bare(key) for key in self}
            raise UnknownNameError(self._kind, name, known, self._missing)
        return matches[0]

    def _matches(self, name: str) -> list[str]:
        """Full names of what is called ``name``, or else was called so before."""
        wanted = canonical(name)
        named = [key for key in self if wanted in (key, _bare(key))]
        return named or [
            key
            for key, component in self._components.items()
            if component.renamed.get(wanted.removeprefix(f"{key.partition(':')[0]}:"))
            == component.name
        ]

    def notices(self, name: str, options: Mapping[str, Any]) -> list[str]:
        """What to write instead of a former ``name`` or a former value of one of its options."""
        component = self[name]
        typed = [canonical(name).rpartition(":")[2]]
        typed += [f"{option}={value}" for option, value in options.items()]
        return [
            f"{word!r} is now called {component.renamed[word]!r}; the old name still works"
            for word in typed
            if word in component.renamed
        ]

    def including(self, plugin: str, things: Mapping[str, Any]) -> Registry:
        """This registry with objects that exist already, called ``plugin:name``."""
        own: dict[str, Component] = {}
        for given, thing in things.items():
            name = canonical(given)
            if not NAME.fullmatch(name) or f"{plugin}:{name}" in {*self, *own}:
                raise ConfigError(f"{given!r} cannot name a {self._kind} of {plugin}")
            own[f"{plugin}:{name}"] = Given(name, "", _summary(thing), thing=thing)
        return Registry(self._kind, {**self._components, **own}, self._missing, self._kinds)

    def rows(self) -> list[dict[str, Any]]:
        """Its components by full name: name, plugin, summary, target."""
        return [
            {
                "name": _bare(full_name),
                "plugin": full_name.partition(":")[0],
                "summary": " ".join(component.summary.split()),
                "target": component.target,
            }
            for full_name, component in sorted(self.items())
        ]

    def __getitem__(self, name: str) -> Component:
        return self._components[self.full_name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._matches(name))

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except UnknownNameError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)


@dataclass(frozen=True, slots=True)
class PluginRow:
    """One installed plugin. ``reason`` says in one line why it is broken or disabled, or that it is
    ok, but deprecated."""

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken", "disabled"]
    reason: str = ""
    components: int = 0


@dataclass(frozen=True, slots=True)
class Catalog:
    """All components found, by kind, and how each plugin fared."""

    tasks: Registry
    networks: Registry
    initialisers: Registry
    transforms: Registry
    harmonisers: Registry
    strategies: Registry
    losses: Registry
    features: Registry
    shift_metrics: Registry
    commands: Registry
    plugins: tuple[PluginRow, ...]

    def plugin_rows(self) -> dict[str, dict[str, Any]]:
        """How each plugin fared, by its name, as plain data."""
        return {row.name: asdict(row) for row in self.plugins}

    def plugin_in(self, trace: TracebackType | None) -> str:
        """The plugin whose components' package ran last in a traceback; "" where none did."""
        packages = {
            component.target.partition(":")[0].partition(".")[0]: name.partition(":")[0]
            for registry in self.registries().values()
            for name, component in registry.items()
        }
        found = ""
        while trace is not None:
            package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
            found = packages.get(package, found) if package != "medtl" else found
            trace = trace.tb_next
        return found

    def registries(self) -> dict[str, Registry]:
        return {kind: getattr(self, kind) for kind in COMPONENT_KINDS}

    def including(self, plugin: str, given: Mapping[str, Mapping[str, Any]]) -> Catalog:
        """This catalog with objects that exist already: kind -> name -> what a component's target
        would be. They are called ``plugin:name``.

        Raises:
            UnknownNameError: there is no such kind.
            ConfigError: a name cannot be used.
        """
        registries = self.registries()
        for kind, things in given.items():
            if kind not in COMPONENT_KINDS:
                raise UnknownNameError("kind of component", kind, COMPONENT_KINDS)
            registries[kind] = registries[kind].including(plugin, things)
        return Catalog(**registries, plugins=self.plugins)


@cache
def load_catalog() -> Catalog:
    """The catalog of what is installed, less what ``MEDTL_DISABLE_PLUGINS=a,b`` names."""
    disabled = os.environ.get("MEDTL_DISABLE_PLUGINS", "")
    return build_catalog(entry_points(group=GROUP), disabled.split(","))


def build_catalog(points: Iterable[EntryPoint], disabled: Iterable[str] = ()) -> Catalog:
    """Load the plugins behind ``points``, each on its own."""
    off = {canonical(name) for name in disabled}
    offers: dict[str, Offer] = {}
    rows: list[PluginRow] = []
    for point in sorted(points, key=_bundled_first):
        name, row = canonical(point.name), _row(point)
        if name in offers:
            reason = f"another plugin is called {name} too; uninstall one of them"
            rows.append(replace(row, status="broken", reason=reason))
            continue
        offers[name] = {}
        if name in off:
            rows.append(replace(row, status="disabled", reason="by MEDTL_DISABLE_PLUGINS"))
            continue
        try:
            if row.distribution not in ("", "medtl"):
                from medtl.plugins import probe  # for plugins from elsewhere alone

                probe.refuse_fatal(point)
            offers[name] = load_plugin(point)
        except PluginError as error:
            rows.append(replace(row, status="broken", reason=str(error)))
        else:
            count = sum(map(len, offers[name].values()))
            rows.append(replace(row, components=count, reason=outdated(point)))
    missing = _missing(rows)
    named: dict[str, dict[str, Component]] = {kind: {} for kind in COMPONENT_KINDS}
    for plugin, offer in offers.items():
        for kind, own in offer.items():
            named[kind] |= {f"{plugin}:{name}": component for name, component in own.items()}
    kinds = {_bare(name): noun for kind, noun in COMPONENT_KINDS.items() for name in named[kind]}
    registries = {
        kind: Registry(noun, named[kind], missing, kinds) for kind, noun in COMPONENT_KINDS.items()
    }
    return Catalog(**registries, plugins=tuple(rows))


def _row(point: EntryPoint) -> PluginRow:
    distribution = point.dist
    return PluginRow(
        canonical(point.name),
        distribution.name if distribution else "",
        distribution.version if distribution else "",
        "ok",
    )


def _bundled_first(point: EntryPoint) -> tuple[bool, bool, str, str]:
    """The bundled plugins' names cannot be taken by others; the order does not depend on paths."""
    distribution = point.dist.name if point.dist else ""
    return distribution != "medtl", point.name != "core", canonical(point.name), distribution


def _missing(rows: Iterable[PluginRow]) -> str:
    """What an unknown name may be due to."""
    named = ", ".join(f"{row.name} ({row.status})" for row in rows if row.status != "ok")
    return f"; plugins not in use: {named}, see `medtl plugins list`" if named else ""


def _summary(thing: Any) -> str:
    """The first line of its docstring."""
    return (getattr(thing, "__doc__", None) or "").strip().partition("\n")[0]


def _bare(full_name: str) -> str:
    return full_name.partition(":")[2]
