"""What every network of this plugin must keep; a new one needs no new test.

Axes: B batch, C channel, L label or region, I J K voxel axes.
"""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.blocks import (
    Network,
    all_logits,
    describe_blocks,
    execution_layers,
    freeze,
    partition,
    select_blocks,
    tensors,
    train_mode,
)
from medtl.networks.hooks import block_features
from medtl.networks.trace import built_on_meta
from medtl_unet3d.plugin import medtl_networks

COMPONENTS = {component.name: component for component in medtl_networks()}
IN, OUT = 2, 3


def build(name: str, dims: int, **changes: object) -> Network:
    settings = dict(in_channels=IN, out_channels=OUT, spatial_dims=dims) | changes
    return COMPONENTS[name].load()(**settings)


def shaped(name: str, dims: int, **changes: object) -> Network:
    """Without values where that is possible: only shapes count."""
    return built_on_meta(partial(build, name, dims, **changes))


@cache
def smallest(name: str, dims: int) -> tuple[Network, int] | None:
    """The network at the least width and patch edge that it takes; None without these dims."""
    for width in (4, 8, 12, 16):
        for edge in (16, 32, 64):
            torch.manual_seed(0)
            try:
                return build(name, dims, width=width, patch_size=(edge,) * dims), edge
            except ConfigError:
                continue
    return None


def small(name: str, dims: int) -> Network:
    """A fresh copy of the network at its least size, with equal weights each time."""
    network, _ = smallest(name, dims)
    return deepcopy(network)


def edge_of(name: str, dims: int) -> int:
    return smallest(name, dims)[1]


def batch_of(name: str, dims: int, cases: int = 2) -> Tensor:
    shape = (cases, IN, *(edge_of(name, dims),) * dims)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def dims_of(name: str) -> list[int]:
    return [dims for dims in (2, 3) if smallest(name, dims)]


def cheapest(name: str) -> int:
    return dims_of(name)[0]


def parameters(network: Network) -> int:
    return sum(tensor.numel() for tensor in network.module.parameters())


def train_once(network: Network, frozen: tuple[str, ...], batch_BCIJK: Tensor) -> None:
    trainable = [p for p in network.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=0.01)
    train_mode(network, frozen)
    all_logits(network.module(batch_BCIJK), network.spatial_dims)[0].square().mean().backward()
    optimiser.step()


def snapshot(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors(network).items()}


def changed(network: Network, before: dict[str, Tensor]) -> set[str]:
    return {name for name, t in tensors(network).items() if not torch.equal(t, before[name])}


every_network = pytest.mark.parametrize("name", list(COMPONENTS))


def test_there_are_s1_s_two_networks_and_at_least_twelve_of_monai():
    assert {"unet3d", "unet2d-37"} <= set(COMPONENTS)
    assert sum("MONAI" in COMPONENTS[name].summary for name in COMPONENTS) >= 12


def test_the_plugin_can_be_listed_without_torch():
    code = (
        "import sys; from medtl_unet3d.plugin import medtl_networks; medtl_networks();"
        "print([m for m in ('torch', 'monai', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@every_network
def test_each_tensor_lies_in_exactly_one_block(name):
    for dims in dims_of(name):
        network = small(name, dims)
        state = network.module.state_dict(keep_vars=True)
        owners = partition(network)
        assert {id(state[key]) for key in owners} == {id(tensor) for tensor in state.values()}
        assert len({id(state[key]) for key in owners}) == len(owners)
        rows = describe_blocks(network)
        by_identity = {id(t): t.numel() for t in state.values() if isinstance(t, nn.Parameter)}
        assert sum(row.parameters for row in rows) == sum(by_identity.values())
        assert sum(row.parameters for row in rows) == parameters(network)
        assert sum(row.buffers for row in rows) == sum(
            tensor.numel()
            for tensor in {id(t): t for t in state.values()}.values()
            if not isinstance(tensor, nn.Parameter)
        )


@every_network
def test_blocks_run_from_stem_to_head(name):
    network = small(name, cheapest(name))
    order = ["stem", "encoder", "bottleneck", "decoder", "head"]
    roles = [block.role for block in network.blocks]
    assert roles == sorted(roles, key=order.index)
    assert set(roles) == set(order)
    assert network.blocks[0].name == "stem"
    assert network.blocks[-1].name == "head"
    assert network.declared


@every_network
def test_the_stem_sees_the_image_and_the_head_makes_the_outputs(name):
    network = small(name, cheapest(name))
    owners, state = partition(network), tensors(network)
    assert network.input_tensors
    assert {owners[key] for key in network.input_tensors} == {"stem"}
    assert all(state[key].shape[1] == IN for key in network.input_tensors)
    assert {owners[key] for key in network.head_tensors} == {"head"}
    assert all(OUT in state[key].shape for key in network.head_tensors)


@every_network
def test_logits_have_the_size_of_the_image(name):
    for dims in dims_of(name):
        network, batch_BCIJK = small(name, dims), batch_of(name, dims, cases=1)
        shape = (1, OUT, *batch_BCIJK.shape[2:])
        network.module.eval()
        with torch.no_grad():
            plain = network.module(batch_BCIJK)
        assert isinstance(plain, Tensor)
        assert plain.shape == shape
        assert torch.isfinite(plain).all()
        assert plain.min() < 0 < plain.max()


@every_network
def test_training_gives_full_resolution_first_and_reaches_every_block(name):
    dims = cheapest(name)
    network, batch_BCIJK = small(name, dims), batch_of(name, dims)
    network.module.train()
    found = all_logits(network.module(batch_BCIJK), dims)
    assert found[0].shape == (2, OUT, *batch_BCIJK.shape[2:])
    assert all(logits.shape[:2] == (2, OUT) for logits in found)
    sum(logits.square().mean() for logits in found).backward()
    owners, state = partition(network), tensors(network)
    reached = {owners[key] for key, t in state.items() if t.grad is not None and t.grad.any()}
    assert reached == {block.name for block in network.blocks}


@every_network
def test_any_number_of_frozen_blocks_stays_bitwise_unchanged(name):
    dims = cheapest(name)
    network, batch_BCIJK = small(name, dims), batch_of(name, dims)
    owners = partition(network)
    for count in range(len(network.blocks)):
        frozen = select_blocks(network, str(count))
        assert {owners[key] for key in frozen} == {b.name for b in network.blocks[:count]}
        freeze(network, frozen)
        before = snapshot(network)
        train_once(network, frozen, batch_BCIJK)
        moved = changed(network, before)
        assert not moved & set(frozen)
        assert {owners[key] for key in moved} == {b.name for b in network.blocks[count:]}


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name != "unet2d-37"])
def test_frozen_encoder_is_bitwise_unchanged_in_3d(name):
    network, batch_BCIJK = small(name, 3), batch_of(name, 3)
    frozen = select_blocks(
        network, ",".join(b.name for b in network.blocks if b.role not in ("decoder", "head"))
    )
    freeze(network, frozen)
    before = snapshot(network)
    train_once(network, frozen, batch_BCIJK)
    assert {partition(network)[key] for key in changed(network, before)} == {
        block.name for block in network.blocks if block.role in ("decoder", "head")
    }


@every_network
def test_every_block_has_features(name):
    dims = cheapest(name)
    network, batch_BCIJK = small(name, dims), batch_of(name, dims, cases=1)
    network.module.eval()
    names = [block.name for block in network.blocks]
    with torch.no_grad():
        features = block_features(network, batch_BCIJK, names)
    assert set(features) == set(names)
    assert all(torch.isfinite(feature).all() for feature in features.values())


@every_network
def test_layers_can_be_counted(name):
    network = small(name, cheapest(name))
    order = execution_layers(network)
    assert len(order) > len(network.blocks)
    few, many = select_blocks(network, "layers:5"), select_blocks(network, f"layers:{len(order)}")
    assert set(few) < set(many) <= set(tensors(network))


@every_network
def test_width_scales_the_network(name):
    dims = cheapest(name)
    network, edge = small(name, dims), edge_of(name, dims)
    wider = shaped(name, dims, width=2 * network.width, patch_size=(edge,) * dims)
    assert parameters(wider) > 2 * parameters(network)
    assert [block.name for block in wider.blocks] == [block.name for block in network.blocks]


@every_network
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_one_to_four_contrasts_are_taken(name, in_channels):
    dims, width = cheapest(name), 12  # which VNet can repeat each number of contrasts to
    fixed = small(name, dims).patch_size or None
    network = shaped(name, dims, in_channels=in_channels, width=width, patch_size=fixed)
    state = tensors(network)
    assert network.input_tensors
    assert {state[key].shape[1] for key in network.input_tensors} == {in_channels}


@every_network
def test_the_declared_patch_multiple_is_needed_and_enough(name):
    dims = cheapest(name)
    network, edge = small(name, dims), edge_of(name, dims)
    multiple = network.patch_multiple
    longer = (edge + multiple,) + (edge,) * (dims - 1)
    shaped(name, dims, width=network.width, patch_size=longer)
    if multiple > 1:
        with pytest.raises(ConfigError, match=f"multiples of {multiple}"):
            build(name, dims, width=network.width, patch_size=(edge + 1,) * dims)


@every_network
def test_checking_the_patch_draws_no_random_numbers(name):
    dims = cheapest(name)
    network, edge = small(name, dims), edge_of(name, dims)
    after = []
    for patch in (network.patch_size or None, (edge,) * dims):
        torch.manual_seed(0)
        build(name, dims, width=network.width, patch_size=patch)
        after.append(torch.random.get_rng_state())
    assert torch.equal(*after)
