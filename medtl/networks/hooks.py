"""The outputs of a network's blocks.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from medtl.networks.blocks import Network, check_block_names, partition, tensor_ids, tensors


def block_features(
    network: Network, batch_BCIJK: Tensor, blocks: Collection[str]
) -> dict[str, Tensor]:
    """The last output of each named block for this batch, in the module's current mode."""
    with record_blocks(network, blocks) as features:
        network.module(batch_BCIJK)
    return features


@contextmanager
def record_blocks(network: Network, blocks: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that every forward fills with the last output of each named block.

    The outputs stay in the graph, so a loss can use them. They are copies, as later layers may work
    in place.

    Raises:
        UnknownNameError: the network has no such block.
    """
    check_block_names(network, blocks)
    features: dict[str, Tensor] = {}
    depth: Counter[str] = Counter()  # of running modules, so that only the outermost is copied

    def watch(part: nn.Module, block: str) -> None:
        def enter(_module: nn.Module, _inputs: Any) -> None:
            depth[block] += 1

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            depth[block] -= 1
            if depth[block] == 0 and (outputs := tensors_in(output)):
                features[block] = outputs[-1].clone()

        hooks.enter_context(part.register_forward_pre_hook(enter))
        hooks.enter_context(part.register_forward_hook(leave))

    with ExitStack() as hooks:
        for part, block in _parts(network):
            if block in blocks:
                watch(part, block)
        yield features


def tensors_in(output: Any) -> list[Tensor]:
    members = output if isinstance(output, list | tuple) else (output,)
    return [member for member in members if isinstance(member, Tensor)]


def _parts(network: Network) -> Iterator[tuple[nn.Module, str]]:
    """The modules whose tensors all lie in one block, and their submodules, with the block."""
    state, owners = tensors(network), partition(network)
    block_of = {id(state[name]): block for name, block in owners.items()}

    def visit(part: nn.Module, inherited: str | None) -> Iterator[tuple[nn.Module, str]]:
        owning = {block_of[identity] for identity in tensor_ids(part)}
        block = owning.pop() if len(owning) == 1 else inherited
        if block is not None:
            yield part, block
        for child in part.children():
            yield from visit(child, block)

    yield from visit(network.module, None)
