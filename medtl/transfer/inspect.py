"""``medtl weights inspect``: the content of a file of weights, and how it fits a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medtl.data.modality import parse_mapping, parse_modalities
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.transfer.receipt import Receipt

if TYPE_CHECKING:
    from medtl.networks.blocks import Network
    from medtl.transfer.weights import Weights


@dataclass(frozen=True, slots=True, repr=False)
class WeightsFile(Shown):
    """``facts``: format, network, modalities, regions, parameters, ... ``receipt``: of loading them
    into the network that was named. ``problem``: why training would refuse that; "": it would not.
    """

    facts: Mapping[str, Any]
    receipt: Receipt | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        facts = self.facts
        return f"{facts['path']}: {facts['parameters']:,} numbers ({facts['format']})"

    @property
    def synthetic(self) -> bool:
        return bool(self.facts["synthetic"])

    def tables(self) -> list[Table]:
        shown = tuple(
            ("trained or validated on" if name == "seen" else name, _cell(name, value))
            for name, value in self.facts.items()
            if name not in ("path", "receipt") and value is not None
        )
        facts = Table(self.facts["path"], ("what", "value"), shown)
        return [facts, *(self.receipt.tables() if self.receipt else ())]

    def to_json(self) -> dict[str, Any]:
        """As ``medtl weights inspect --json`` prints it."""
        return dict(self.facts)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        settings = sorted((k for k in value if value[k] != {}), key=lambda k: (k != "name", k))
        return ", ".join(f"{key} {value[key]}" for key in settings)
    if isinstance(value, list):
        return ", ".join(value) or "not stated"
    number = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{number} image{'s' if value != 1 else ''}" if name == "seen" else number


def inspect(
    file: str,
    catalog: Catalog,
    *,
    network: str = "",
    width: int | None = None,
    modalities: str = "",
    regions: str = "",
    mapping: Sequence[str] = (),
    init_modalities: str = "",
    weights_key: str = "",
) -> WeightsFile:
    """Inspect weights, a run or a stage; with ``network``, preview the receipt of loading them.

    ``width``, ``modalities`` and ``regions`` of that network default to the file's. ``mapping``:
    "t1=t1ce" seeds t1 from the file's t1ce. ``weights_key``: which weights of the file, where it
    holds several.

    Raises:
        WeightsError: there are no weights, or they cannot be read.
        ConfigError: neither the file nor ``modalities`` names the network's inputs.
    """
    from medtl.transfer.mismatch import misfit
    from medtl.transfer.transfer import transfer
    from medtl.transfer.weights import read_weights, resolve_weights

    weights = read_weights(resolve_weights(file), weights_key)
    facts = facts_of(weights)
    if not network:
        return WeightsFile(facts)
    target, inputs, outputs = _target(weights, catalog, network, width, modalities, regions)
    receipt = transfer(
        target,
        weights,
        modalities=inputs,
        regions=outputs,
        mapping=parse_mapping(mapping),
        allow_partial=True,
        source_modalities=parse_modalities(init_modalities) if init_modalities else None,
    )
    facts["receipt"] = {"network": target.name, **receipt.to_json()}
    return WeightsFile(facts, replace(receipt, whose=network), misfit(target, weights, receipt))


def facts_of(weights: Weights) -> dict[str, Any]:
    """The content of a file of weights, as plain data.

    Parameters include the norms' running statistics, which a file does not mark as such.
    """
    numbers = {
        (tensor.data_ptr(), tuple(tensor.shape)): tensor.numel()
        for tensor in weights.tensors.values()
        if tensor.is_floating_point()
    }
    return {
        "path": str(weights.path),
        "format": weights.format,
        "network": weights.metadata.get("network"),
        "task": weights.metadata.get("task"),
        "stage": weights.metadata.get("stage"),
        "synthetic": weights.metadata.get("synthetic"),
        "modalities": list(weights.modalities),
        "regions": list(weights.regions),
        "tensors": len(weights.tensors),
        "parameters": sum(numbers.values()),
        "seen": len(weights.seen),
    }


def _target(
    weights: Weights,
    catalog: Catalog,
    name: str,
    width: int | None,
    modalities: str,
    regions: str,
) -> tuple[Network, tuple[str, ...], tuple[str, ...]]:
    """The network to load into, with its modalities and regions."""
    from medtl.transfer.weights import no_larger_than

    inputs = parse_modalities(modalities) if modalities else weights.modalities
    if not inputs:
        raise ConfigError(f"{weights.path} does not name its modalities; state --modalities")
    outputs = tuple(regions.split(",")) if regions else weights.regions
    component = catalog.networks[name]
    saved = weights.network
    saved_name = str(saved.get("name")).rpartition(":")[2]
    same = saved_name == component.name or component.renamed.get(saved_name) == component.name
    make = component.load()
    # What the file records may be anything; the user's own width and the published one may not.
    recorded = same and width is None
    with no_larger_than(weights) if recorded else nullcontext():
        network = make(
            in_channels=len(inputs),
            out_channels=len(outputs) or 1,
            spatial_dims=saved.get("spatial_dims", _dims_of(weights)),
            width=width or (saved.get("width") if same else None),
            **(saved.get("options", {}) if same else {}),
        )
    return network, tuple(inputs), outputs


def _dims_of(weights: Weights) -> int:
    """3, unless all of the file's convolutions are 2-D."""
    ranks = {tensor.ndim for tensor in weights.tensors.values()}
    return 2 if 4 in ranks and 5 not in ranks else 3
