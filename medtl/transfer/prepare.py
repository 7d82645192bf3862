"""Prepare a network for a stage: load weights, initialise, freeze; with the receipt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from medtl.errors import ConfigError, shortened
from medtl.networks.blocks import Network, freeze, partition, select_blocks, tensors
from medtl.transfer.receipt import Receipt
from medtl.transfer.response import calibrate_response
from medtl.transfer.strategies.base import Stage
from medtl.transfer.transfer import LEFT_RANDOM, random_row, transfer
from medtl.transfer.weights import Weights


@dataclass(frozen=True, slots=True)
class PreparedNetwork:
    """A network whose ``frozen`` tensors (names) will not change in the stage."""

    network: Network
    frozen: tuple[str, ...]
    receipt: Receipt

    def trainable_share(self) -> float:
        sizes = {
            name: tensor.numel()
            for name, tensor in tensors(self.network).items()
            if isinstance(tensor, nn.Parameter)
        }
        return 1 - sum(sizes.get(name, 0) for name in self.frozen) / sum(sizes.values())


def prepare_network(
    network: Network,
    stage: Stage,
    weights: Weights | None,
    regions: tuple[str, ...],
    *,
    mapping: Mapping[str, str],
    allow_partial: bool = False,
    source_modalities: tuple[str, ...] | None = None,
    batch: Tensor | None = None,
    initialise: Callable[[Network, Receipt], Receipt] | None = None,
) -> PreparedNetwork:
    """Transfer ``weights`` (None: keep the random ones), ``initialise``, and freeze the network.

    If blocks are frozen by number ("2"), a stem that holds a new modality stays trainable. If they
    are frozen by name or layer, the stem is frozen as asked.

    Args:
        batch: training patches of the stage (B, C, ...). If the weights record how strongly their
            first layers responded, adapted ones are scaled to respond as strongly.

    Raises:
        ConfigError: two channels of a frozen stem are identical, and could never become different;
            or the file lacks weights of a frozen block, which would stay random.
    """
    if weights is None:
        owners, state = partition(network), tensors(network)
        receipt = Receipt("random", tuple(random_row(n, owners[n], t) for n, t in state.items()))
    else:
        receipt = transfer(
            network,
            weights,
            modalities=stage.domain.modalities,
            regions=regions,
            mapping=mapping,
            reinit=(*stage.reinit, *_new_top(network, weights)),
            allow_partial=allow_partial,
            source_modalities=source_modalities,
        )
        if batch is not None and "response_rms" in weights.metadata:
            rms = weights.metadata["response_rms"]
            receipt = calibrate_response(network, receipt, rms, batch)
    loaded = receipt if weights is not None else None
    if initialise is not None:
        receipt = initialise(network, receipt)
    frozen, receipt = _frozen(network, stage, receipt)
    if loaded is not None:
        _check_frozen(stage, loaded, frozen)
    if receipt.identical_modalities and set(network.input_tensors) & set(frozen):
        first, second = receipt.identical_modalities[0]
        raise ConfigError(
            f"stage {stage.name}: the frozen stem would see {first} and {second} through identical "
            "weights; leave the stem out of --freeze or start one of them elsewhere with --map"
        )
    freeze(network, frozen)
    return PreparedNetwork(network, frozen, receipt)


def _frozen(network: Network, stage: Stage, receipt: Receipt) -> tuple[tuple[str, ...], Receipt]:
    """The tensors to freeze, and the receipt with a note if the stem stays trainable."""
    frozen = select_blocks(network, stage.frozen)
    if not (receipt.new_modalities and stage.frozen.isdecimal()):
        return frozen, receipt
    block_of = partition(network)
    stems = {block_of[name] for name in network.input_tensors}
    kept = tuple(name for name in frozen if block_of[name] not in stems)
    if len(kept) == len(frozen):
        return frozen, receipt
    new = ", ".join(receipt.new_modalities)
    note = f"{', '.join(sorted(stems))} stays trainable: new modalities {new}"
    return kept, replace(receipt, notes=(*receipt.notes, note))


def _check_frozen(stage: Stage, receipt: Receipt, frozen: Collection[str]) -> None:
    """Refuse to freeze what was to be loaded and is random: it would never be trained."""
    lost = [
        row
        for row in receipt.tensors
        if row.status == "random"
        and row.name in frozen
        and row.note != LEFT_RANDOM
        and not row.name.endswith("num_batches_tracked")
    ]
    if not lost:
        return
    blocks = ", ".join(dict.fromkeys(row.block for row in lost))
    shown = shortened([f"{row.name} ({row.note})" for row in lost])
    raise ConfigError(
        f"{receipt.origin}: {len(lost)} frozen tensors of {blocks} would stay random in stage "
        f"{stage.name}: {shown}; leave {blocks} out of --freeze, or name a file that has them"
    )


def _new_top(network: Network, weights: Weights) -> tuple[str, ...]:
    """The head of a classifier that is cut at another block than the weights' network.

    Its inputs are other features, even if its shape fits. A cut U-Net loses its lowest levels, so
    its head keeps its inputs.
    """
    options = weights.network.get("options")
    cut = options.get("keep_blocks") if isinstance(options, dict) else None
    elsewhere = not network.dense and network.options.get("keep_blocks") != cut
    return (network.blocks[-1].name,) if elsewhere else ()
