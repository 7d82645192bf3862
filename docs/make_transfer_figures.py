"""Draw the figures of docs/concepts/transfer.md.

python docs/make_transfer_figures.py

Axes: B block, S stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_style import BLUE, GREY, ORANGE, draw_all, save

from medtl.data.domain import parse_domain
from medtl.networks.blocks import Network, select_blocks, tensors
from medtl.plugins.catalog import load_catalog
from medtl.transfer.receipt import block_shares
from medtl.transfer.strategies.base import Request
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights

STATUSES = {"loaded": BLUE, "adapted": ORANGE, "random": GREY}
REGIONS = ("WT", "TC", "ET")
#: Title -> the target's modalities, its regions, and blocks left random.
TRANSFERS = {
    "flair+t1ce to t1+t2": (("t1", "t2"), REGIONS, ()),
    "to all four contrasts, two regions": (("flair", "t1", "t1ce", "t2"), ("WT", "CSF"), ()),
    "transfusion --depth 4": (
        ("t1", "t2"),
        REGIONS,
        ("bottleneck", "decoder1", "decoder2", "decoder3", "head"),
    ),
}
STRATEGIES = (
    "fine-tune",
    "linear-probe",
    "head-first",
    "gradual-unfreeze",
    "transfusion",
    "l2-sp",
    "modality-transfer",
)


def receipts(path: Path) -> None:
    """What becomes of each block's parameters in three transfers of the default U-Net."""
    source = _unet(2, len(REGIONS))
    state = {name: tensor.detach() for name, tensor in tensors(source).items()}
    metadata = {"modalities": ["flair", "t1ce"], "regions": list(REGIONS)}
    weights = Weights(Path("source"), state, metadata, "medtl")
    figure, axes = plt.subplots(1, len(TRANSFERS), figsize=(9, 2.9), sharey=True)
    for axis, (title, (modalities, regions, random)) in zip(axes, TRANSFERS.items(), strict=True):
        network = _unet(len(modalities), len(regions))
        receipt = transfer(network, weights, modalities=modalities, regions=regions, reinit=random)
        shares = block_shares(receipt.tensors)
        left = np.zeros(len(shares))
        for status, colour in STATUSES.items():
            width = np.array(
                [counts.get(status, 0) / sum(counts.values()) for counts in shares.values()]
            )
            axis.barh(list(shares), width, left=left, color=colour, label=status)
            left += width
        axis.set_title(title, fontsize=9)
        axis.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    axes[0].invert_yaxis()
    axes[1].set_xlabel("share of the block's parameters")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    figure.subplots_adjust(bottom=0.24)
    save(path)


def plans(path: Path) -> None:
    """Which blocks of the default U-Net each strategy trains in which stage, and at what rate."""
    network = _unet(2, len(REGIONS))
    blocks = tuple(block.name for block in network.blocks)
    domain = parse_domain("t1,t2")
    request = Request(domain, domain, 1000, 2, 2e-3, init="source", blocks=blocks)
    catalog = load_catalog()
    columns, rates = [], []
    for name in STRATEGIES:
        depth = 4 if name == "transfusion" else None
        asked = replace(request, depth=depth)
        for stage in catalog.strategies[name].load()(asked):
            frozen = set(select_blocks(network, stage.frozen))
            columns.append((name, stage.name if stage.name != name else ""))
            rates.append([_rate(network, block, stage.rates, frozen) for block in blocks])
    rates_BS = np.ma.masked_invalid(np.array(rates).T)
    _, axis = plt.subplots(figsize=(9, 3.4))
    colours = plt.get_cmap("viridis").with_extremes(bad="#e6e8eb")
    shown = axis.imshow(np.log10(rates_BS), cmap=colours, aspect="auto")
    axis.set_yticks(range(len(blocks)), blocks)
    labels = [f"{name}: {stage}" if stage else name for name, stage in columns]
    axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
    starts = [n for n, column in enumerate(columns) if n and column[0] != columns[n - 1][0]]
    for start in starts:
        axis.axvline(start - 0.5, color="white", linewidth=3)
    bar = plt.colorbar(shown, ax=axis, pad=0.01)
    bar.set_label("learning rate, log10 (grey: frozen)")
    save(path)


def _unet(in_channels: int, out_channels: int) -> Network:
    network: Network = (
        load_catalog()
        .networks["unet"]
        .load()(in_channels=in_channels, out_channels=out_channels, spatial_dims=3, width=None)
    )
    return network


def _rate(network: Network, block: str, rates: Mapping[str, float], frozen: set[str]) -> float:
    held = set(select_blocks(network, block))
    return float("nan") if held <= frozen else rates.get(block, rates["*"])


FIGURES = {"transfer-receipts": receipts, "transfer-plans": plans}

if __name__ == "__main__":
    draw_all(FIGURES)
