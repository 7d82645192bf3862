"""What is installed: components, plugins, the machine; and components of your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medtl.api.shown import Shown
from medtl.catalog import Catalog, load_catalog
from medtl.errors import UnknownNameError
from medtl.plugins import COMPONENT_KINDS, canonical

if TYPE_CHECKING:
    from medtl.report.tables import Table

#: What goes before the names of components that a program brings itself.
OWN = "own"


@dataclass(frozen=True, slots=True, repr=False)
class Listing(Shown):
    """Rows of equal keys."""

    what: str
    listed: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        return f"{len(self.listed)} {self.what}"

    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.listed]

    def names(self) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in self.listed)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)

    def tables(self) -> list[Table]:
        from medtl.report.tables import Table

        if not self.listed:
            return []
        cells = tuple(tuple(map(str, row.values())) for row in self.listed)
        return [Table(self.what, tuple(self.listed[0]), cells)]

    def to_json(self) -> list[dict[str, Any]]:
        return self.rows()


def catalog(**own: Mapping[str, Any]) -> Catalog:
    """What is installed, and components of your own, for the ``catalog`` of the other calls.

    Each keyword is a kind, with the objects that a component's target would be by name::

        mine = api.catalog(networks={"tiny": build_tiny}, strategies={"gently": gently})
        run = api.train("brats", network="tiny", strategy="gently", catalog=mine)

    What each kind must be is told in :mod:`medtl.hookspecs`. A run that was trained with a network
    of your own can be used only with it. Where the name is taken, write ``own:NAME``.
    """
    return load_catalog().including(OWN, own)


def components(kind: str | None = None, *, catalog: Catalog | None = None) -> Listing:
    """Tasks, networks, strategies and so on; ``kind``: one of these alone. ``medtl list``."""
    registries = (catalog or load_catalog()).registries()
    kinds: Sequence[str] = tuple(COMPONENT_KINDS)
    if kind is not None:
        wanted = canonical(kind).replace("-", "_")
        if wanted not in COMPONENT_KINDS:
            raise UnknownNameError("kind of component", kind, COMPONENT_KINDS)
        kinds = (wanted,)
    rows = [
        {"kind": COMPONENT_KINDS[each], **row} for each in kinds for row in registries[each].rows()
    ]
    what = kinds[0].replace("_", " ") if kind is not None else "components"
    return Listing(what, tuple(rows))


def plugins() -> Listing:
    """The plugins found: ok, broken or disabled, and why. ``medtl plugins list``."""
    return Listing("plugins", tuple(asdict(row) for row in load_catalog().plugins))


@dataclass(frozen=True, slots=True, repr=False)
class Machine(Shown):
    """Versions, devices, memory (GB), cache, plugins and extras, by section."""

    report: Mapping[str, Mapping[str, Any]]

    @property
    def title(self) -> str:
        versions = self.report["versions"]
        return f"medtl {versions['medtl']}, Python {versions['python']}, {versions['system']}"

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        if section not in self.report:
            raise UnknownNameError("section", section, self.report)
        return self.report[section]

    def tables(self) -> list[Table]:
        from medtl.machine import shown
        from medtl.report.tables import Table

        return [
            Table(
                section.replace("_", " "),
                ("what", "value"),
                tuple((name, shown(value)) for name, value in content.items()),
            )
            for section, content in self.report.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return {section: dict(content) for section, content in self.report.items()}


def doctor() -> Machine:
    """What this machine offers, and what is missing. ``medtl doctor``."""
    from medtl.machine import examine

    return Machine(examine())
