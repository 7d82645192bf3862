"""The block protocol on small modules whose answers are known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medtl.errors import ConfigError, UnknownNameError
from medtl.networks.blocks import (
    Block,
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
from medtl.networks.builder import derive_blocks, finish, network_builder
from medtl.networks.hooks import block_features, record_blocks
from medtl.plugins.catalog import load_catalog

BLOCKS = (
    Block("stem", "stem", ("first.*",)),
    Block("encoder1", "encoder", ("middle.*",)),
    Block("head", "head", ("last.*",)),
)


class Small(nn.Module):
    """Runs first, middle, last, though declared otherwise; middle is registered twice."""

    def __init__(self, in_channels: int = 2, out_channels: int = 3) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, out_channels, 1)
        self.middle = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5)
        )
        self.again = nn.ModuleList([self.middle])
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        return self.last(nn.functional.relu(self.middle(self.first(batch_BCIJ)), inplace=True))


def small(**changes: object) -> Network:
    settings = dict(in_channels=2, out_channels=3, spatial_dims=2, width=4) | changes
    return finish("small", Small, BLOCKS, **settings)


def train_once(network: Network, frozen: tuple[str, ...]) -> None:
    train_mode(network, frozen)
    optimiser = torch.optim.AdamW(network.module.parameters(), lr=0.1, weight_decay=0.1)
    batch_BCIJ = torch.randn(2, network.in_channels, 8, 8)
    network.module(batch_BCIJ).square().sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def snapshot(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors(network).items()}


def changed(network: Network, before: dict[str, Tensor]) -> set[str]:
    return {name for name, t in tensors(network).items() if not torch.equal(t, before[name])}


def test_shared_tensors_are_counted_once():
    network = small()
    assert sum(t.numel() for t in tensors(network).values() if isinstance(t, nn.Parameter)) == (
        (2 * 4 * 9 + 4) + (4 * 4 * 9 + 8) + (4 * 3 + 3)
    )
    assert not any(name.startswith("again") for name in tensors(network))


def test_rows_follow_the_declared_order():
    rows = describe_blocks(small())
    assert [(r.block, r.role, r.parameters, r.buffers) for r in rows] == [
        ("stem", "stem", 76, 0),
        ("encoder1", "encoder", 152, 9),
        ("head", "head", 15, 0),
    ]


def test_a_pattern_may_name_any_alias_of_a_shared_tensor():
    blocks = (*BLOCKS[:1], Block("encoder1", "encoder", ("again.0.*",)), *BLOCKS[2:])
    network = finish("small", Small, blocks, in_channels=2, out_channels=3, spatial_dims=2, width=4)
    assert partition(network)["middle.0.weight"] == "encoder1"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (BLOCKS[:2], "last.weight is in no block"),
        ((*BLOCKS, Block("twice", "head", ("last.*",))), "in blocks head and twice"),
        ((*BLOCKS, Block("empty", "head", ("nothing.*",))), "block empty holds no tensor"),
    ],
)
def test_wrong_declarations_are_refused(blocks, message):
    with pytest.raises(ConfigError, match=message):
        finish("small", Small, blocks, in_channels=2, out_channels=3, spatial_dims=2, width=4)


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        ("none", set()),
        ("0", set()),
        ("all", {"stem", "encoder1", "head"}),
        ("3", {"stem", "encoder1", "head"}),
        ("2", {"stem", "encoder1"}),
        ("head", {"head"}),
        ("stem, head", {"stem", "head"}),
        ("all-but:head", {"stem", "encoder1"}),
        ("all-but:head,stem", {"encoder1"}),
    ],
)
def test_spec_selects_whole_blocks(spec, blocks):
    network = small()
    owners = partition(network)
    assert select_blocks(network, spec) == tuple(n for n, b in owners.items() if b in blocks)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("encoder", UnknownNameError, "did you mean 'encoder1'"),
        ("all-but:haed", UnknownNameError, "did you mean 'head'"),
        ("", UnknownNameError, "unknown block"),
        ("4", ConfigError, "has 3"),
        ("-1", ConfigError, "0 or more"),
        ("layers:x", ConfigError, "whole number"),
        ("layers:99", ConfigError, "runs 5"),
    ],
)
def test_impossible_specs_are_one_clear_line(spec, error, message):
    with pytest.raises(error, match=message) as caught:
        select_blocks(small(), spec)
    assert "\n" not in str(caught.value)


def test_layers_are_counted_in_order_of_execution_not_of_declaration():
    network = small()
    assert execution_layers(network) == ["first", "middle.0", "middle.1", "middle.2", "last"]
    assert select_blocks(network, "layers:2") == (
        "middle.0.weight",
        "first.weight",
        "first.bias",
    )


def test_layers_are_found_without_touching_weights_buffers_or_random_state():
    network = small()
    before, state = snapshot(network), torch.random.get_rng_state()
    network.module.train()
    execution_layers(network)
    assert not changed(network, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(part.training for part in network.module.modules())


@pytest.mark.parametrize("spec", ["none", "1", "2", "head", "all-but:head", "layers:2"])
def test_frozen_tensors_and_buffers_are_bitwise_unchanged(spec):
    network = small()
    frozen = select_blocks(network, spec)
    freeze(network, frozen)
    before = snapshot(network)
    train_once(network, frozen)
    assert changed(network, before) == set(tensors(network)) - set(frozen)


def test_frozen_statistics_hold_still_after_validation_in_between():
    network = small()
    frozen = select_blocks(network, "2")
    freeze(network, frozen)
    before = snapshot(network)
    network.module.eval()
    train_once(network, frozen)
    assert not changed(network, before) & set(frozen)
    assert not any(part.training for part in network.module.middle.modules())
    assert network.module.last.training


def test_freezing_anew_forgets_the_earlier_selection():
    network = small()
    freeze(network, select_blocks(network, "2"))
    freeze(network, select_blocks(network, "head"))
    trainable = {n for n, p in network.module.named_parameters() if p.requires_grad}
    assert not any(name.startswith("last") for name in trainable)
    assert {"first.weight", "middle.0.weight"} <= trainable
    train_mode(network, ())
    assert all(part.training for part in network.module.modules())


def test_freezing_an_unknown_tensor_is_refused():
    with pytest.raises(UnknownNameError, match=r"first\.weight"):
        freeze(small(), ("first.weigth",))


def test_logits_come_at_full_resolution_first():
    fine, coarse = torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 3, 4, 4, 4)
    assert all_logits(fine) == (fine,)
    assert [t.shape for t in all_logits([coarse, fine])] == [fine.shape, coarse.shape]
    assert len(all_logits((fine, torch.tensor(0.5)))) == 1
    stacked = torch.stack([fine, fine + 1], dim=1)
    assert [float(t.mean()) for t in all_logits(stacked)] == [0.0, 1.0]
    assert len(all_logits(torch.zeros(2, 3, 8, 8, 8), spatial_dims=2)) == 3
    with pytest.raises(ConfigError, match="no logits"):
        all_logits({"out": 1})


def test_features_are_the_last_output_of_each_block_and_safe_from_in_place_layers():
    network = small()
    network.module.eval()
    batch_BCIJ = torch.randn(1, 2, 8, 8)
    features = block_features(network, batch_BCIJ, ("stem", "encoder1", "head"))
    stem = network.module.first(batch_BCIJ)
    assert torch.equal(features["stem"], stem)
    assert torch.equal(features["encoder1"], network.module.middle(stem))
    assert torch.equal(features["head"], network.module(batch_BCIJ))
    with pytest.raises(UnknownNameError):
        block_features(network, batch_BCIJ, ("neck",))


def test_a_loss_on_features_reaches_the_block_and_nothing_behind_it():
    network = small()
    with record_blocks(network, ("encoder1",)) as features:
        network.module(torch.randn(2, 2, 8, 8))
    features["encoder1"].square().sum().backward()
    assert network.module.first.weight.grad is not None
    assert network.module.last.weight.grad is None
    features.clear()
    network.module(torch.randn(2, 2, 8, 8))
    assert not features


class Shortcuts(nn.Module):
    """Sees the image twice and the outputs twice; reads values while it is built."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if 16 % in_channels:
            raise ValueError("in_channels must divide 16")
        self.rate = torch.linspace(0, 1, 3)[1].item()
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.residual = nn.Conv2d(in_channels, 16, 1)
        self.coarse = nn.Conv2d(16, out_channels, 1)
        self.head = nn.ConvTranspose2d(16, out_channels, 2)


SHORTCUT_BLOCKS = (
    Block("stem", "stem", ("stem.*", "residual.*")),
    Block("head", "head", ("coarse.*", "head.*")),
)


@pytest.mark.parametrize("in_channels", [1, 2, 16])
def test_every_tensor_that_sees_image_or_outputs_is_found(in_channels):
    network = finish(
        "shortcuts",
        Shortcuts,
        SHORTCUT_BLOCKS,
        in_channels=in_channels,
        out_channels=16,
        spatial_dims=2,
        width=16,
    )
    assert network.input_tensors == ("stem.weight", "residual.weight")
    assert network.head_tensors == ("coarse.weight", "coarse.bias", "head.weight", "head.bias")


def test_what_a_module_cannot_take_is_a_config_error():
    with pytest.raises(ConfigError, match=r"shortcuts cannot be built with 3 channels.*divide 16"):
        finish(
            "shortcuts",
            Shortcuts,
            SHORTCUT_BLOCKS,
            in_channels=3,
            out_channels=2,
            spatial_dims=2,
            width=16,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "input channels must be 1 or more"),
        ({"out_channels": 0}, "outputs must be 1 or more"),
        ({"width": -1}, "width must be 1 or more"),
        ({"spatial_dims": 3, "dimensions": (2,)}, "is a 2-D network"),
        ({"patch_size": (8, 8, 8)}, "is 2-D; the patch is 8x8x8"),
        ({"patch_size": (8, 12), "patch_multiple": 8}, "multiples of 8, not 8x12"),
    ],
)
def test_impossible_numbers_are_one_clear_line(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_a_patch_that_the_module_cannot_run_is_refused_before_any_data_is_read():
    def make(in_channels: int, out_channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, 4, 8, stride=8),
            nn.InstanceNorm2d(4, affine=True),
            nn.ConvTranspose2d(4, out_channels, 8, stride=8),
        )

    blocks = (Block("stem", "stem", ("[01].*",)), Block("head", "head", ("2.*",)))
    numbers = dict(in_channels=1, out_channels=2, spatial_dims=2, width=4)
    assert finish("norms", make, blocks, **numbers, patch_size=(16, 16)).patch_size == ()
    with pytest.raises(ConfigError, match=r"norms cannot take patches of 8x8; .*more than 1"):
        finish("norms", make, blocks, **numbers, patch_size=(8, 8))


def test_building_draws_the_same_weights_as_the_module_alone():
    torch.manual_seed(3)
    network = small()
    after = torch.random.get_rng_state()
    torch.manual_seed(3)
    alone = Small(2, 3)
    assert all(
        torch.equal(t, alone.state_dict()[name]) for name, t in network.module.state_dict().items()
    )
    assert torch.equal(after, torch.random.get_rng_state())


def test_builder_fills_in_the_published_width():
    @network_builder("small", width=4, dimensions=(2,))
    def build(spatial_dims: int, width: int) -> tuple:
        """Documented."""
        return Small, BLOCKS

    network = build(in_channels=1, out_channels=2)
    assert (network.width, network.spatial_dims, build.__doc__) == (4, 2, "Documented.")


class Undeclared(nn.Module):
    """Parts in a list, one part never run, a tensor of its own, all inside a wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(4, 2, 1)
        self.spare = nn.Linear(2, 2)
        self.steps = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(1, 4, 1)])
        self.offset = nn.Parameter(torch.zeros(1))
        self.twin = self.steps[1]

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        return self.out(self.steps[0](self.twin(batch_BCIJ + self.offset)))


def test_blocks_of_an_undeclared_network_follow_the_order_of_execution():
    wrapper = nn.Sequential(Undeclared())
    blocks = derive_blocks(wrapper, torch.randn(1, 1, 4, 4))
    assert [(block.name, block.role) for block in blocks] == [
        ("0.steps.1", "stem"),
        ("0.steps.0", "encoder"),
        ("0.out", "head"),
        ("0.spare", "head"),
    ]
    network = Network("derived", wrapper, blocks, 1, 2, 2, 4, (), (), declared=False)
    assert partition(network)["0.offset"] == "0.steps.1"


def test_a_network_without_declared_blocks_says_so():
    def plain(in_channels: int, out_channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv3d(in_channels, 4, 3), nn.ReLU(), nn.Conv3d(4, out_channels, 3))

    numbers = dict(in_channels=1, out_channels=2, spatial_dims=3, width=4)
    network = finish("plain", plain, None, **numbers)
    assert not network.declared
    assert [(b.name, b.role) for b in network.blocks] == [("0", "stem"), ("2", "head")]
    assert small().declared


def test_a_module_without_parts_is_one_block():
    layer = nn.Conv2d(1, 2, 1)
    blocks = derive_blocks(layer, torch.randn(1, 1, 4, 4))
    network = Network("layer", layer, blocks, 1, 2, 2, 1, (), (), declared=False)
    assert set(partition(network).values()) == {"network"}


@pytest.mark.parametrize("name", load_catalog().networks)
def test_summary_says_whether_a_network_segments_or_classifies(name: str) -> None:
    component = load_catalog().networks[name]
    dims = 2 if component.summary.startswith("classifies") or "2d" in name else 3
    shape = {"in_channels": 1, "out_channels": 2, "spatial_dims": dims}
    try:
        with torch.device("meta"):
            network = component.load()(**shape)
    except ConfigError:  # its constructor reads values
        network = component.load()(**shape, width=12)
    assert component.summary.startswith("segments: " if network.dense else "classifies: ")
