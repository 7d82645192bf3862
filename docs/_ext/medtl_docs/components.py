"""A page per component of every registry, and an index per kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from medtl import Component
from medtl.plugins.catalog import Registry, load_catalog
from medtl.plugins.loader import COMPONENT_KINDS
from medtl.training.losses import FeatureLoss, WeightLoss
from medtl_docs.details import DETAILS
from medtl_docs.markdown import code, documented, fenced, link, page, table, text, toctree

#: How a component of each kind is asked for by name.
USES = {
    "tasks": "medtl train {name} --dry-run",
    "networks": "medtl train TASK --network {name} --dry-run",
    "initialisers": "medtl train TASK --init FILE --initialiser {name} --dry-run",
    "transforms": "medtl train TASK --transforms {name} --dry-run",
    "strategies": "medtl train TASK --strategy {name} --dry-run",
    "losses": "medtl train TASK --set loss={name} --dry-run",
    "features": "medtl shift TASK --features {name}",
    "shift_metrics": "medtl shift TASK --metrics {name}",
}
#: Commands have pages of their own.
COMMANDS = "commands"


def component_pages() -> dict[str, str]:
    """Path below ``docs/`` -> page, of what medtl itself brings along."""
    kinds = {kind: bundled(kind) for kind in COMPONENT_KINDS if kind != COMMANDS}
    pages = {"components/index.md": _index(kinds)}
    for kind, components in kinds.items():
        folder = f"components/{slug(kind)}"
        pages[f"{folder}/index.md"] = _kind_index(kind, components)
        for name, component in components.items():
            own = _component(kind, name.partition(":")[0], component)
            pages[f"{folder}/{component.name}.md"] = own
    return pages


def bundled(kind: str) -> dict[str, Component]:
    """Full name -> component, of the plugins that come with medtl; by bare name."""
    catalog = load_catalog()
    own = {row.name for row in catalog.plugins if row.distribution == "medtl"}
    registry: Registry = catalog.registries()[kind]
    found = [item for item in registry.items() if item[0].partition(":")[0] in own]
    return dict(sorted(found, key=lambda item: item[1].name))


def slug(kind: str) -> str:
    """As ``medtl list`` calls a kind."""
    return kind.replace("_", "-")


def _index(kinds: Mapping[str, Mapping[str, Component]]) -> str:
    rows = [
        (
            link(slug(kind).replace("-", " "), f"{slug(kind)}/index.md"),
            str(len(components)),
            text(COMPONENT_KINDS[kind]),
        )
        for kind, components in kinds.items()
    ]
    return page(
        "Components",
        "What the bundled plugins offer, made from the registries that `medtl list` shows. "
        "A third party's plugin adds to each of them by a [hook](../hooks.md).",
        table(("kind", "how many", "one is called"), rows),
        toctree([f"{slug(kind)}/index" for kind in kinds], "hidden"),
    )


def _kind_index(kind: str, components: Mapping[str, Component]) -> str:
    rows = [
        (link(code(each.name), f"{each.name}.md"), code(name.partition(":")[0]), text(each.summary))
        for name, each in components.items()
    ]
    return page(
        slug(kind).replace("-", " ").capitalize(),
        f"`medtl list {slug(kind)}` lists these; the hook is "
        + link(code(f"medtl_{kind}"), f"../../hooks.md#medtl_{kind}")
        + ".",
        table(("name", "plugin", "what it is"), rows),
        toctree([each.name for each in components.values()], "hidden"),
    )


def _component(kind: str, plugin: str, component: Component) -> str:
    target = component.load()
    directive = "autoclass" if inspect.isclass(target) else "autofunction"
    use = _use(kind, component)
    return page(
        component.name,
        f"A {COMPONENT_KINDS[kind]} of the plugin {code(plugin)}: {text(component.summary)}.",
        use and fenced("bash", use),
        documented(directive, _called(kind, component, target), "no-index"),
        *_details(kind, component, target),
    )


def _called(kind: str, component: Component, target: Any) -> str:
    """The target; a network with its bare arguments: a decorator makes it, and the names in there
    would be shown in place of the defaults."""
    where = component.target.replace(":", ".")
    if kind != "networks":
        return where
    signature = inspect.signature(target)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return f"{where}{inspect.Signature(plain)}"


def _use(kind: str, component: Component) -> str:
    if kind == "harmonisers":
        fits = component.load()().landmarks is not None
        return f"medtl train TASK --set harmonise={component.name} --dry-run" if fits else ""
    if kind == "losses" and isinstance(component.load()(), FeatureLoss | WeightLoss):
        kind = "strategies"  # the one that brings it along is called the same
    return USES[kind].format(name=component.name)


def _details(kind: str, component: Component, target: object) -> Iterator[str]:
    for title, body in DETAILS.get(kind, lambda *_: ())(component, target):
        if body:
            yield f"## {title}"
            yield body
