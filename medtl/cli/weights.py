"""``medtl weights``: look into a file of weights before it is transferred."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtl.cli.complete import component

if TYPE_CHECKING:
    from rich.console import Console

    from medtl.networks import Network
    from medtl.receipts import Receipt
    from medtl.weights import Weights

app = typer.Typer(add_completion=False)


@app.callback()
def weights() -> None:
    """Inspect weights before they are transferred."""


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE|RUN", help="Weights, or a run or stage.")],
    network: Annotated[
        str,
        typer.Option(
            help="Preview the receipt of loading into it.", autocompletion=component("networks")
        ),
    ] = "",
    width: Annotated[int | None, typer.Option(help="Width of that network.")] = None,
    modalities: Annotated[
        str, typer.Option(help="Its input channels, e.g. t1,t2. Default: the file's.")
    ] = "",
    regions: Annotated[str, typer.Option(help="Its outputs. Default: the file's.")] = "",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="TARGET=SOURCE, e.g. t1=t1ce.")
    ] = None,
    init_modalities: Annotated[
        str, typer.Option(help="The file's input channels, where it does not name them.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a file of weights holds and, with --network, what would become of each tensor."""
    from rich.console import Console

    from medtl.misfit import misfit
    from medtl.weights import read_weights, resolve_weights

    weights = read_weights(resolve_weights(file))
    facts = _facts(weights)
    preview = None
    if network:
        target, names = _target(weights, network, width, modalities, regions)
        preview = _preview(weights, target, *names, mapping or [], init_modalities)
        facts["receipt"] = {"network": target.name, **preview.to_json()}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    _print_facts(console, facts)
    if preview is not None:
        _print_receipt(console, network, preview, misfit(target, weights, preview))


def _facts(weights: Weights) -> dict[str, Any]:
    """Parameters are counted with the norms' running statistics: a file cannot tell them apart."""
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
    weights: Weights, name: str, width: int | None, modalities: str, regions: str
) -> tuple[Network, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The network to load into, with its modalities and regions."""
    from medtl.catalog import load_catalog
    from medtl.errors import ConfigError
    from medtl.modality import parse_modalities

    inputs = parse_modalities(modalities) if modalities else weights.modalities
    if not inputs:
        raise ConfigError(f"{weights.path} does not name its modalities; state --modalities")
    outputs = tuple(regions.split(",")) if regions else weights.regions
    component = load_catalog().networks[name]
    saved = weights.metadata.get("network")
    saved = saved if isinstance(saved, dict) else {}
    same = str(saved.get("name")).rpartition(":")[2] == component.name
    network = component.load()(
        in_channels=len(inputs),
        out_channels=len(outputs) or 1,
        spatial_dims=saved.get("spatial_dims", _dims_of(weights)),
        width=width or (saved.get("width") if same else None),
        **(saved.get("options", {}) if same else {}),
    )
    return network, (tuple(inputs), outputs)


def _dims_of(weights: Weights) -> int:
    """3 unless the file's convolutions are 2-D alone."""
    ranks = {tensor.ndim for tensor in weights.tensors.values()}
    return 2 if 4 in ranks and 5 not in ranks else 3


def _preview(
    weights: Weights,
    network: Network,
    modalities: tuple[str, ...],
    regions: tuple[str, ...],
    mapping: list[str],
    init_modalities: str,
) -> Receipt:
    from medtl.adaptation import parse_mapping
    from medtl.modality import parse_modalities
    from medtl.transfer import transfer

    return transfer(
        network,
        weights,
        modalities=modalities,
        regions=regions,
        mapping=parse_mapping(mapping),
        allow_partial=True,
        source_modalities=parse_modalities(init_modalities) if init_modalities else None,
    )


def _print_facts(console: Console, facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=facts["path"], show_header=False, title_justify="left")
    for key, value in facts.items():
        if key in ("path", "receipt") or value is None:
            continue
        if key == "network":
            value = ", ".join(f"{name} {value[name]}" for name in sorted(value, key=_name_first))
        elif isinstance(value, list):
            value = ", ".join(value) or "not stated"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        table.add_row(key, str(value))
    console.print(table)


def _name_first(key: str) -> tuple[bool, str]:
    return key != "name", key


def _print_receipt(console: Console, network: str, receipt: Receipt, problem: str) -> None:
    from rich.table import Table

    from medtl.receipts import block_shares

    table = Table(title=f"into {network}", title_justify="left")
    for heading in ("block", "parameters", "loaded", "adapted", "random"):
        table.add_column(heading, justify="left" if heading == "block" else "right")
    table.add_column("notes")
    total = 0
    for block, counts in block_shares(receipt.rows).items():
        size = sum(counts.values())
        total += size
        shares = [
            _percent(counts.get(status, 0) / size) for status in ("loaded", "adapted", "random")
        ]
        table.add_row(block, f"{size:,}", *shares, _block_notes(receipt, block))
    table.add_section()
    table.add_row("all", f"{total:,}", *map(_percent, receipt.shares().values()), "sum 100%")
    console.print(table)
    skipped = [row.name for row in receipt.rows if row.status == "skipped"]
    if skipped:
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        console.print(f"skipped, only in the file: {', '.join(skipped[:5])}{more}")
    for note in receipt.notes:
        console.print(f"note: {note}")
    if problem:
        console.print(f"training refuses it without --allow-partial: {problem}", markup=False)


def _block_notes(receipt: Receipt, block: str) -> str:
    """What was done to the block's tensors, each once."""
    notes = [row.note for row in receipt.rows if row.block == block and row.note]
    unique = list(dict.fromkeys(notes))
    more = f"\n({len(unique) - 2} more)" if len(unique) > 2 else ""
    return "\n".join(unique[:2]) + more


def _percent(share: float) -> str:
    return f"{share:.1%}" if share else "-"
