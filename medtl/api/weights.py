"""A look into weights before they are transferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtl.api.receipts import Receipt
from medtl.api.session import own_randomness
from medtl.api.settings import Where, path_of
from medtl.api.shown import Shown

if TYPE_CHECKING:
    from medtl.catalog import Catalog
    from medtl.report.tables import Table


@dataclass(frozen=True, slots=True, repr=False)
class WeightsFile(Shown):
    """``facts``: format, network, modalities, regions, parameters, ... ``receipt``: of loading them
    into the network that was named. ``problem``: why training would refuse that; "": it would not.
    """

    facts: Mapping[str, Any]
    receipt: Receipt | None
    problem: str

    @property
    def title(self) -> str:
        return (
            f"{self.facts['path']}: {self.facts['parameters']:,} numbers ({self.facts['format']})"
        )

    @property
    def synthetic(self) -> bool:
        return bool(self.facts["synthetic"])

    def tables(self) -> list[Table]:
        from medtl.report.tables import Table

        shown = [
            (name, _weights_cell(value))
            for name, value in self.facts.items()
            if name not in ("path", "receipt") and value is not None
        ]
        facts = Table("Weights", ("what", "value"), tuple(shown))
        return [facts, *(self.receipt.tables() if self.receipt else ())]

    def to_json(self) -> dict[str, Any]:
        """As ``medtl weights inspect --json`` prints it."""
        return dict(self.facts)


def inspect_weights(
    file: Where,
    *,
    network: str | None = None,
    width: int | None = None,
    modalities: Sequence[str] = (),
    regions: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    init_modalities: Sequence[str] = (),
    catalog: Catalog | None = None,
) -> WeightsFile:
    """What a file, a run or a stage holds and, with ``network``, what would become of each tensor.

    Args:
        width, modalities, regions: of that network; left out, they are the file's.
        map: a new modality -> the one that it starts from.
        init_modalities: the file's input channels, where it does not name them.
    """
    from medtl.catalog import load_catalog
    from medtl.inspection import inspect

    with own_randomness():
        found = inspect(
            str(path_of(file)),
            catalog or load_catalog(),
            network=network or "",
            width=width,
            modalities=_joined(modalities),
            regions=_joined(regions),
            mapping=[f"{new}={old}" for new, old in (map or {}).items()],
            init_modalities=_joined(init_modalities),
        )
    receipt = Receipt(network, found.receipt) if network and found.receipt else None
    return WeightsFile(found.facts, receipt, found.problem)


def _joined(names: Sequence[str]) -> str:
    return names if isinstance(names, str) else ",".join(names)


def _weights_cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not stated"
    return str(value)
