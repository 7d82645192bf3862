"""What an initialiser must keep: it is tried on a small network that weights were loaded into."""

from __future__ import annotations

import torch
from torch import Tensor

from medtl.networks.blocks import Network, tensors
from medtl.testing.check import Tried, require
from medtl.testing.toys import MODALITIES, REGIONS, changed, copied, toy_network, toy_weights
from medtl.transfer.receipt import Receipt
from medtl.transfer.transfer import transfer


def initialised(tried: Tried, seed: int = 0) -> tuple[Network, dict[str, Tensor], Receipt, Receipt]:
    """The network, its tensors before, and the receipts before and after."""
    network = toy_network()
    receipt = transfer(network, toy_weights(), modalities=MODALITIES, regions=REGIONS)
    before = copied(network)
    return network, before, receipt, tried.returned(Receipt, network, receipt, seed)


def weights_stay_finite(tried: Tried) -> None:
    """Every tensor keeps its shape and kind of number, and holds finite ones."""
    network, before, _, _ = initialised(tried)
    for name, tensor in tensors(network).items():
        same = tensor.shape == before[name].shape and tensor.dtype == before[name].dtype
        require(same, f"{name} has another shape or dtype; copy_() new values into the tensor")
        require(torch.isfinite(tensor).all(), f"{name} is not finite afterwards")


def same_seed_gives_the_same_weights(tried: Tried) -> None:
    """Random values come from ``seed``; torch's global generator is not used."""
    state = torch.random.get_rng_state()
    network = initialised(tried)[0]
    untouched = torch.equal(state, torch.random.get_rng_state())
    require(untouched, "it draws from torch's global randomness; use a torch.Generator of the seed")
    again = copied(initialised(tried)[0])
    require(not changed(network, again), "the same seed gives other weights; draw only from it")


def receipt_says_what_it_changed(tried: Tried) -> None:
    """It changes tensors, and the receipt names each one that it changed."""
    network, before, old, new = initialised(tried)
    moved = changed(network, before)
    require(moved, "it changed no tensor of a network with 3x3 kernels and batch norm")
    rows = {row.name: row for row in old.tensors}
    silent = sorted(moved & {row.name for row in new.tensors if row == rows.get(row.name)})
    missing = sorted(set(rows) - {row.name for row in new.tensors})
    require(not missing, f"its receipt lacks {', '.join(missing[:3])}; keep a row for each tensor")
    names, helper = ", ".join(silent[:3]), "medtl.transfer.receipt.redrawn"
    require(not silent, f"it changed {names} and its receipt does not say so; use {helper}")
