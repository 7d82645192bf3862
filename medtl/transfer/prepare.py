"""A network made ready for a stage: built, weights in, blocks frozen, receipt written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, freeze, partition, select_blocks, tensors
from medtl.transfer.receipt import Receipt, ReceiptRow
from medtl.transfer.response import calibrate_response
from medtl.transfer.strategies.base import Stage
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PreparedNetwork:
    """A network whose ``frozen`` tensors (names) will not change in the stage."""

    network: Network
    frozen: tuple[str, ...]
    receipt: Receipt

    def trainable_share(self) -> float:
        from torch import nn

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
    """Transfer ``weights`` (None: keep the random ones), ``initialise``, and freeze what the stage
    says.

    A stem that holds a new modality stays trainable where blocks are counted ("2"); frozen by
    name or layer it is taken at its word, unless two of its channels start out identical, which
    is a ConfigError: they could never become different.

    ``batch`` holds training patches of the stage (B, C, ...): where the weights record how strongly
    their first layers answered, adapted ones are scaled to answer as strongly.
    """
    if weights is None:
        receipt = _untouched(network)
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
    if initialise is not None:
        receipt = initialise(network, receipt)
    frozen = select_blocks(network, stage.frozen)
    if receipt.new_modalities and stage.frozen.isdigit():
        block_of = partition(network)
        stems = {block_of[name] for name in network.input_tensors}
        kept = tuple(name for name in frozen if block_of[name] not in stems)
        if len(kept) < len(frozen):
            frozen = kept
            new = ", ".join(receipt.new_modalities)
            note = f"{', '.join(sorted(stems))} stays trainable: new modalities {new}"
            receipt = replace(receipt, notes=(*receipt.notes, note))
    if receipt.identical_modalities and set(network.input_tensors) & set(frozen):
        first, second = receipt.identical_modalities[0]
        raise ConfigError(
            f"stage {stage.name}: the frozen stem would see {first} and {second} through identical "
            "weights; leave the stem out of --freeze or start one of them elsewhere with --map"
        )
    freeze(network, frozen)
    return PreparedNetwork(network, frozen, receipt)


def _new_top(network: Network, weights: Weights) -> tuple[str, ...]:
    """The head of a classifier that is cut elsewhere than the weights' network.

    It sits on other features, whatever fits. A U-Net loses levels at its bottom: its head stays.
    """
    saved = weights.metadata.get("network")
    options = saved.get("options") if isinstance(saved, dict) else None
    cut = options.get("keep_blocks") if isinstance(options, dict) else None
    elsewhere = not network.dense and network.options.get("keep_blocks") != cut
    return (network.blocks[-1].name,) if elsewhere else ()


def _untouched(network: Network) -> Receipt:
    from torch import nn

    block_of = partition(network)
    rows = tuple(
        ReceiptRow(
            name,
            block_of[name],
            "random",
            tuple(tensor.shape),
            tensor.numel(),
            isinstance(tensor, nn.Parameter),
        )
        for name, tensor in tensors(network).items()
    )
    return Receipt("random", rows)
