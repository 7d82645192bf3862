"""Check whether a file's weights fit a network, and say in one line why not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher

from torch import Tensor

from medtl.errors import shortened
from medtl.networks.blocks import Network, match_block, tensors
from medtl.transfer.name_match import NameMatch, match_names
from medtl.transfer.nnunet_names import NNUNET
from medtl.transfer.receipt import Receipt, ReceiptRow
from medtl.transfer.weights import Weights

#: The least share of parameters, and of tensors, that counts as a transfer.
ENOUGH = 0.5


#: With a larger share of a block's weights unused, the file is another network's.
WITHOUT_PLACE = 0.1


#: The note on a tensor that the file does not have.
NOT_IN_FILE = "not in the file"


MATCHING = "choose the matching --network"


_VGG = {8: 11, 10: 13, 13: 16, 16: 19}


_RESNET: dict[tuple[tuple[int, ...], int], int] = {
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
}


#: A tensor of a VGG's first layer, or of a ResNet's first block, behind any prefix.
_FIRST_NAMES = re.compile(r"((?:.*\.)?)(?:features\.0|layer1\.0\.conv1)\.weight")


def misfit(
    network: Network, weights: Weights, receipt: Receipt, reinit: Collection[str] = ()
) -> str:
    """Why ``weights`` do not fit ``network``, and what to do; empty if they fit.

    Heads, slim blocks and the blocks of ``reinit`` are expected to be random, so only the other
    blocks of the ``receipt`` count.
    """
    match = match_names(network, weights.tensors)
    free = {*reinit, *_new_by_nature(network)}
    skipped = [row for row in receipt.tensors if row.status == "skipped"]
    asked = [
        row
        for row in receipt.tensors
        if row.parameter and row.status != "skipped" and row.block not in free
    ]
    if not asked:
        return ""
    share = Receipt("", tuple(asked)).transferred
    number = sum(row.status != "random" for row in asked) / len(asked)
    if min(share, number) < ENOUGH:
        what = "parameters" if share <= number else "tensors"
        misfits = [row for row in asked if row.status == "random"]
        shown = "; ".join(f"{row.name} {row.shape}: {row.note}" for row in misfits[:3])
        problem = f"only {min(share, number):.0%} of {network.name}'s {what} would be transferred"
        if depth := _flat(network, asked, misfits):
            return (
                f"{problem}: its 2-D convolutions fit, repeated over the slices, but the layers "
                f"after them were made for pictures ({shown}); carry the first {depth} blocks over "
                f"by --strategy transfusion --depth {depth}"
            )
        if part := _part_alone(match, weights, misfits):
            return f"{problem}: {part}"
        return (
            f"{problem}, these are weights of {architecture(weights)} ({shown})"
            f"{_near_miss(network, weights, misfits, skipped)}; {MATCHING}"
        )
    return _without_place(network, weights, match, skipped, asked)


def _without_place(
    network: Network,
    weights: Weights,
    match: NameMatch,
    skipped: Sequence[ReceiptRow],
    asked: Sequence[ReceiptRow],
) -> str:
    """The first block for which the weights have much that finds no place there; "" if none."""
    homes = {row.name: match.name_here(row.name) for row in skipped if not row.note}
    for block in dict.fromkeys(row.block for row in asked):
        held = [row for row in asked if row.block == block]
        used = sum(row.numel for row in held if row.status != "random")
        lost = [
            name for name, here in homes.items() if here and block in match_block(network, (here,))
        ]
        for row in held:  # a kernel in the file and a vector (a norm's) here, or the reverse
            if row.source and (len(row.shape) == 1) != (weights.tensors[row.source].ndim == 1):
                lost.append(row.source)
        homeless = sum(weights.tensors[name].numel() for name in lost)
        if homeless > WITHOUT_PLACE * (used + homeless):
            return (
                f"{homeless / (used + homeless):.0%} of what it has for {block} of {network.name} "
                f"would have no place there ({', '.join(lost[:3])}), these are weights of "
                f"{architecture(weights)}; {MATCHING}"
            )
    return ""


def _flat(network: Network, asked: Sequence[ReceiptRow], misfits: Sequence[ReceiptRow]) -> int:
    """The number of first blocks of a 3-D network that 2-D weights fill.

    0 unless all convolutions fit and only layers after them do not.
    """
    if not any("inflated" in row.factors for row in asked) or any(
        len(row.shape) > 2 or not row.source for row in misfits
    ):
        return 0
    lost = {row.block for row in misfits}
    names = [block.name for block in network.blocks]
    return min(names.index(block) for block in lost)


def _part_alone(match: NameMatch, weights: Weights, misfits: Sequence[ReceiptRow]) -> str:
    """What is missing in a file of an encoder alone, all of which fits; empty for other files."""
    lacking = [row for row in misfits if row.note == NOT_IN_FILE]
    used = set(match.names.values())
    own = [n for n, each in weights.tensors.items() if n.startswith(match.there) and each.ndim]
    if not used or len(lacking) < len(misfits) or not used.issuperset(own):
        return ""
    blocks = shortened(list(dict.fromkeys(row.block for row in lacking)), 4)
    where = f" under {match.there.rstrip('.')}" if match.there else ""
    return (
        f"all {len(used)} tensors of the file{where} fit, and it has none for {blocks}, which "
        "would start random, as after self-supervision; name a file of the whole network"
    )


def _new_by_nature(network: Network) -> set[str]:
    """Heads, and the slim blocks of the option ``slim_from``."""
    slim = network.options.get("slim_from")
    blocks = [block.name for block in network.blocks]
    heads = {block.name for block in network.blocks if block.role == "head"}
    return heads | set(blocks[slim - 1 :] if slim else ())


def architecture(weights: Weights) -> str:
    """The file's network, as a hint at the right one."""
    saved = weights.network
    if "name" in saved:
        width = saved.get("width")
        return f"network {saved['name']}" + (f" of width {width}" if width else "")
    if weights.format == NNUNET:
        return "nnU-Net, whose PlainConvUNet alone fits, and only dynunet of its own sizes"
    known = torchvision_network(weights.tensors)
    return f"torchvision's {known}" if known else "another architecture"


def first_channels(state: Mapping[str, Tensor]) -> int:
    """Image channels that torchvision's network in a file takes; 0 for other networks."""
    if not torchvision_network(state):
        return 0
    bare = _without_prefix(state)
    first = bare.get("features.0.weight", bare.get("conv1.weight"))
    return first.shape[1] if first is not None and first.ndim == 4 else 0


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VGG's or ResNet's tensors, without the prefix before all of them."""
    prefix = next((m[1] for name in state if (m := _FIRST_NAMES.fullmatch(name))), "")
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def torchvision_network(state: Mapping[str, Tensor]) -> str:
    """medtl's name of the torchvision VGG or ResNet that these tensors are of; else empty.

    A prefix before all of its names is allowed (``module.encoder.``).
    """
    state = _without_prefix(state)
    stages = [name for name in state if re.fullmatch(r"features\.\d+\.weight", name)]
    depth = _VGG.get(sum(state[name].ndim == 4 for name in stages))
    if depth:
        norm = any(name.endswith("running_mean") for name in state)
        return f"vgg{depth}{'-bn' if norm else ''}"
    places = [re.fullmatch(r"layer(\d)\.(\d+)\.conv(\d)\.weight", name) for name in state]
    numbers = [tuple(map(int, place.groups())) for place in places if place]
    blocks = Counter(level for level, _, convolution in numbers if convolution == 1)
    counts = tuple(blocks[level] for level in range(1, 5))
    layers = _RESNET.get((counts, max((row[2] for row in numbers), default=0)))
    return f"resnet{layers}" if layers else ""


def _near_miss(
    network: Network,
    weights: Weights,
    misfits: Sequence[ReceiptRow],
    skipped: Sequence[ReceiptRow],
) -> str:
    """The likeliest cause by names and shapes."""
    normed = any(name.endswith("running_mean") for name in tensors(network))
    has_norm = any(name.endswith("running_mean") for name in weights.tensors)
    if normed != has_norm:
        sides = ("the file", network.name) if has_norm else (network.name, "the file")
        return f"; {sides[0]} has batch norm, {sides[1]} has none"
    ranks = {weights.tensors[row.source].ndim for row in misfits if row.source}
    if network.spatial_dims == 2 and 5 in ranks:
        return "; the file's convolutions are 3-D, these are 2-D"
    ratios = {
        weights.tensors[row.source].shape[0] / row.shape[0]
        for row in misfits
        if row.source and row.shape
    }
    if len(ratios) == 1 and (ratio := ratios.pop()) != 1:
        return f"; it is {ratio:g} times as wide: try --width {round(network.width * ratio)}"
    return _same_shape(misfits, skipped)


def _same_shape(misfits: Sequence[ReceiptRow], skipped: Sequence[ReceiptRow]) -> str:
    """A tensor of the file with the shape of a missing one and the most similar name."""
    for row in misfits:
        equal = [other.name for other in skipped if other.shape == row.shape and row.shape]
        if equal and not row.source:
            name = max(equal, key=lambda name: SequenceMatcher(None, name, row.name).ratio())
            return f"; {name} in the file has the shape of {row.name} here"
    return ""
