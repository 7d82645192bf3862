"""What a network must keep. It is tried at the least width and patch that its builder takes.

Axes: B batch, C channel, L label or region, I J K voxel axes.
"""

from __future__ import annotations

from dataclasses import replace
from math import lcm
from pathlib import Path

import torch
from torch import Tensor, nn

from medtl.errors import MedtlError
from medtl.networks.blocks import (
    Network,
    execution_layers,
    freeze,
    partition,
    select_blocks,
    tensors,
    train_mode,
)
from medtl.networks.trace import layers, own_tensors
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.smallest import IN, OUT, Small, another, every, fresh, logits_of, predicted
from medtl.testing.toys import changed, copied, seeded
from medtl.transfer.transfer import load_exactly
from medtl.transfer.weights import Weights

LEARNING_RATE = 0.01


def says_what_it_was_built_for(tried: Tried) -> None:
    """Its fields name the channels, outputs and dimensions that were asked for, and its tensors."""
    for small in every(tried):
        network = small.network
        asked = {"in_channels": IN, "out_channels": OUT}
        for field, value in asked.items():
            found = getattr(network, field)
            require(found == value, f"{field} is {found}, built with {value}; pass that on")
        require(network.blocks, "it names no blocks; declare them, or pass blocks=None to finish()")
        last = network.blocks[-1]
        require(last.role == "head", f"its last block, {last.name}, is no head; give it that role")
        owners = partition(network)
        heads = {block.name for block in network.blocks if block.role == "head"}
        for name in (*network.input_tensors, *network.head_tensors):
            require(name in owners, f"{name} is no tensor of it; name tensors as tensors() does")
        for name in network.head_tensors:
            require(owners[name] in heads, f"{name} counts outputs, but lies outside of the head")


def outputs_fit_the_image(tried: Tried) -> None:
    """In 2-D and in 3-D: an output per voxel or per image, and finite."""
    for small in every(tried):
        network, image_BCIJK = small.network, small.images()[:1]
        found = predicted(network, image_BCIJK)
        wanted = torch.Size((1, OUT, *(image_BCIJK.shape[2:] if network.dense else ())))
        sizes = f"outputs of {_size(found.shape)}, not {_size(wanted)}, with dense={network.dense}"
        require(found.shape == wanted, f"an image of {_size(image_BCIJK.shape)} gives {sizes}")
        require(torch.isfinite(found).all(), "its outputs are not finite")


def patches_of_its_multiple_fit(tried: Tried) -> None:
    """A patch whose edges are an odd multiple of ``patch_multiple`` passes through it."""
    small = every(tried)[0]
    network = small.network
    multiple = lcm(*network.multiples)
    least = small.edge // multiple + 1
    edge = multiple * (least + (least % 2 == 0))
    shape = (1, network.in_channels, *(edge,) * network.spatial_dims)
    stated = f"but patch_multiple is {network.patch_multiple}"
    remedy = f"{stated}; state what the edges must be multiples of"
    try:
        larger = replace(small, edge=edge).again()
        found = predicted(larger, torch.zeros(shape))
    except (RuntimeError, ValueError, MedtlError, CheckFailed) as error:
        reason = " ".join(str(error).split())
        raise CheckFailed(
            f"a patch of {_size(torch.Size(shape))} fails ({reason}), {remedy}"
        ) from error
    wanted = (1, OUT, *(shape[2:] if network.dense else ()))
    sizes = f"a patch of {_size(torch.Size(shape))} gives {_size(found.shape)}, {remedy}"
    require(tuple(found.shape) == wanted, sizes)


def outputs_depend_on_the_image_alone(tried: Tried) -> None:
    """Outputs differ between images, are repeatable, and do not depend on the rest of the batch."""
    small, network = fresh(tried)
    images_BCIJK = small.images()
    found = predicted(network, images_BCIJK)
    require(not torch.equal(found[0], found[1]), "two images give the same; is the image used?")
    same = torch.equal(found, predicted(network, images_BCIJK))
    require(same, "the same images give other outputs; draw nothing at random in evaluation mode")
    beside = predicted(network, images_BCIJK.flip(0)).flip(0)
    close = torch.allclose(found, beside, rtol=1e-3, atol=1e-4 * float(found.abs().max()))
    require(close, "outputs depend on the image's place in the batch; normalise each image alone")


def gradients_reach_every_parameter(tried: Tried) -> None:
    """One backward pass leaves a finite gradient with every parameter, and some in each block."""
    small, network = fresh(tried)
    network.module.train()
    with seeded(2):
        found = logits_of(network, network.module(small.images()))
        _mixed(found).backward()  # type: ignore[no-untyped-call]
    owners = partition(network)
    gradients = {n: t.grad for n, t in tensors(network).items() if isinstance(t, nn.Parameter)}
    for name, gradient in gradients.items():
        if gradient is None:
            raise CheckFailed(f"no gradient reaches {name}; remove it, or use it in forward")
        require(torch.isfinite(gradient).all(), f"the gradient of {name} is not finite")
    learning = {owners[name] for name, gradient in gradients.items() if gradient.any()}  # type: ignore[union-attr]
    still = ", ".join(dict.fromkeys(owners[n] for n in gradients if owners[n] not in learning))
    require(not still, f"all gradients of {still} are 0: nothing is learnt there")


def blocks_cover_every_tensor_once(tried: Tried) -> None:
    """Every parameter and buffer lies in exactly one block, in 2-D and in 3-D."""
    for small in every(tried):
        partition(small.network)


def encoder_blocks_run_in_their_order(tried: Tried) -> None:
    """Stem, encoder and bottleneck are named in the order they run: counts of blocks mean depth."""
    small, network = fresh(tried)
    owners, parts = partition(network), layers(network.module)
    block_of = {id(tensor): owners[name] for name, tensor in tensors(network).items()}
    down = [b.name for b in network.blocks if b.role in ("stem", "encoder", "bottleneck")]
    order = execution_layers(network, (small.edge,) * network.spatial_dims)
    held = [block_of.get(id(t)) for layer in order for t in own_tensors(parts[layer])]
    ran = list(dict.fromkeys(block for block in held if block in down))
    declared = [name for name in down if name in ran]
    orders = f"{', '.join(declared)} run in the order {', '.join(ran)}"
    require(ran == declared, f"its blocks {orders}; name them so")


def first_layers_count_the_channels(tried: Tried) -> None:
    """With other channels, only axis 1 of the ``input_tensors`` has another length."""
    small, network = fresh(tried)
    require(network.input_tensors, "it names no input_tensors; their axis 1 counts channels")
    state, others = tensors(network), another(small, "in_channels", IN)
    for name, tensor in state.items():
        one, two = tensor.shape, others[name].shape
        if name in network.input_tensors:
            counts = len(one) > 1 and len(two) > 1 and one[1] != two[1]
            require(counts, f"axis 1 of {name} does not count channels; it is no input tensor")
            kept = one[:1] == two[:1] and one[2:] == two[2:]
        else:
            kept = one == two
        sizes = f"{_size(one)} or {_size(two)}, by the channels"
        require(kept, f"{name} is {sizes}: name it among the input_tensors")


def another_head_changes_the_head_alone(tried: Tried) -> None:
    """With other outputs, only the ``head_tensors`` have another shape."""
    small, network = fresh(tried)
    require(network.head_tensors, "it names no head_tensors: those with an axis counting outputs")
    state, others = tensors(network), another(small, "out_channels", OUT)
    for name, tensor in state.items():
        one, two = tensor.shape, others[name].shape
        if name in network.head_tensors:
            require(one != two, f"{name} does not count outputs; it is no head tensor")
            continue
        sizes = f"{_size(one)} or {_size(two)}, by the outputs"
        require(one == two, f"{name} is {sizes}: name it among the head_tensors")


def saved_weights_give_the_same_outputs(tried: Tried) -> None:
    """What a checkpoint keeps of it, loaded into another one, predicts the same to the bit."""
    small, network = fresh(tried)
    other = small.again(seed=3)
    images_BCIJK = small.images()
    with torch.no_grad(), seeded(4):
        network.module.train()
        network.module(images_BCIJK)  # running statistics move
        kept = copied(network)
        load_exactly(other, Weights(Path("checkpoint.safetensors"), kept, {}, "medtl"))
    same = torch.equal(predicted(network, images_BCIJK), predicted(other, images_BCIJK))
    remedy = "keep all that it needs in parameters and persistent buffers"
    require(same, f"loaded from its own state dict it gives other outputs; {remedy}")


def frozen_blocks_stay_bitwise_still(tried: Tried) -> None:
    """A training step changes no tensor of frozen blocks, running statistics included."""
    small, network = fresh(tried)
    start = copied(network)
    for count in sorted({len(network.blocks) // 2, len(network.blocks) - 1} - {0}):
        frozen = select_blocks(network, str(count))
        freeze(network, frozen)
        before = copied(network)
        _step(small, network, frozen)
        moved = changed(network, before)
        wrong = ", ".join(sorted(moved & set(frozen))[:3])
        remedy = "in forward, change tensors only in training mode, and none of another block"
        require(not wrong, f"{wrong} changed while the first {count} blocks were frozen; {remedy}")
        require(moved, "nothing changed in a training step")
        with torch.no_grad():
            for name, tensor in tensors(network).items():
                tensor.copy_(start[name])


def _step(small: Small, network: Network, frozen: tuple[str, ...]) -> None:
    trained = [p for p in network.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=LEARNING_RATE)
    train_mode(network, frozen)
    with seeded(5):
        _mixed(logits_of(network, network.module(small.images()))).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _mixed(found: tuple[Tensor, ...]) -> Tensor:
    """A number that every output has a part in."""
    return torch.stack([(each * torch.randn_like(each)).sum() for each in found]).sum()


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a number"
