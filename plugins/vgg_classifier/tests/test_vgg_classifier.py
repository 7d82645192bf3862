"""VGG against the published architecture and parameter counts, and medtl's promises on blocks.

Axes: B batch, C channel, I J pixels.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from medtl.errors import ConfigError, UnknownNameError, WeightsError
from medtl.networks.blocks import Network, freeze, partition, select_blocks, tensors, train_mode
from medtl.networks.hooks import block_features
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights
from medtl_vgg_classifier.plugin import medtl_networks

COMPONENTS = {component.name: component for component in medtl_networks()}
#: Simonyan and Zisserman 2015, table 1; M is a pooling.
CONFIGURATIONS = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
#: Parameters for ImageNet's 1000 classes, as torchvision documents them.
PUBLISHED = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11-bn": 132_868_840,
    "vgg13-bn": 133_053_736,
    "vgg16-bn": 138_365_992,
    "vgg19-bn": 143_678_248,
}
COLOURS, CLASSES = ("red", "green", "blue"), ("a", "b", "c", "d")
every_network = pytest.mark.parametrize("name", list(COMPONENTS))


def build(name: str, **changes: object) -> Network:
    torch.manual_seed(0)
    settings = dict(in_channels=3, out_channels=4, spatial_dims=2, width=8) | changes
    return COMPONENTS[name].load()(**settings)


def published(name: str, classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of torchvision's checkpoint, written out from the architecture."""
    shapes: dict[str, tuple[int, ...]] = {}
    place, channels = 0, 3
    for word in CONFIGURATIONS[name.removesuffix("-bn")].split():
        if word == "M":
            place += 1
            continue
        size = int(word)
        shapes[f"features.{place}.weight"] = (size, channels, 3, 3)
        shapes[f"features.{place}.bias"] = (size,)
        if name.endswith("-bn"):
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"features.{place + 1}.{part}"] = (size,)
            shapes[f"features.{place + 1}.num_batches_tracked"] = ()
        place += 3 if name.endswith("-bn") else 2
        channels = size
    for layer, shape in (0, (4096, 25088)), (3, (4096, 4096)), (6, (classes, 4096)):
        shapes[f"classifier.{layer}.weight"] = shape
        shapes[f"classifier.{layer}.bias"] = shape[:1]
    return shapes


def narrowed(name: str, by: int = 8) -> Weights:
    """Such a checkpoint with channels and hidden numbers that are so many times fewer."""

    def tensor(key: str, shape: tuple[int, ...]) -> Tensor:
        if not shape:
            return torch.tensor(7)
        return torch.rand([n if n in (3, 1000) else n // by for n in shape])

    state = {key: tensor(key, shape) for key, shape in published(name).items()}
    return Weights(Path("torchvision.pth"), state, {"modalities": list(COLOURS)}, "state dict")


def parameters(network: Network, blocks: tuple[str, ...] | None = None) -> int:
    owners = partition(network)
    return sum(
        tensor.numel()
        for name, tensor in tensors(network).items()
        if isinstance(tensor, torch.nn.Parameter) and (blocks is None or owners[name] in blocks)
    )


@every_network
def test_published_names_shapes_and_totals(name: str) -> None:
    with torch.device("meta"):
        network = build(name, out_channels=1000, width=None)
    state = network.module.state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == published(name)
    assert parameters(network) == PUBLISHED[name]


@every_network
def test_torchvision_s_weights_load_with_a_full_receipt(name: str) -> None:
    network, weights = build(name), narrowed(name)
    receipt = transfer(network, weights, modalities=COLOURS, regions=CLASSES)
    loaded = {row.name for row in receipt.tensors if row.status == "loaded"}
    assert loaded == set(weights.tensors) - {"classifier.6.weight", "classifier.6.bias"}
    assert {row.status for row in receipt.tensors} == {"loaded", "random"}
    state = tensors(network)
    assert all(torch.equal(state[key], weights.tensors[key]) for key in loaded)


@pytest.mark.parametrize(
    ("name", "head", "total", "trained"),
    [
        ("vgg11-bn", "gap-128", 9_292_164, 66_180),
        ("vgg19-bn", "hidden-128", 23_247_300, 3_211_908),
        ("vgg11", "hidden-2048-256", 61_128_324, 51_907_844),
        ("vgg11", "torchvision", 128_782_724, 16_388),
    ],
)
def test_heads_have_the_reported_parameters(name: str, head: str, total: int, trained: int) -> None:
    with torch.device("meta"):
        network = build(name, head=head, width=None)
    assert parameters(network) == total
    freeze(network, select_blocks(network, "all-but:head"))
    assert sum(p.numel() for p in network.module.parameters() if p.requires_grad) == trained
    assert network.options == {"head": head, "keep_blocks": None, "slim_from": None}


def test_heads_drop_out_as_published() -> None:
    def dropped(head: str) -> list[float]:
        layers = build("vgg11", head=head).module.classifier
        return [layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)]

    assert dropped("hidden-2048-256") == [0.7, 0.6]
    assert dropped("torchvision") == [0.5, 0.5]


def test_imagenet_s_features_load_under_any_head() -> None:
    network = build("vgg11", head="hidden-2048-256")
    receipt = transfer(network, narrowed("vgg11"), modalities=COLOURS, regions=CLASSES)
    assert {row.block for row in receipt.tensors if row.status == "random"} == {"head"}


@pytest.mark.parametrize("head", ["torchvision", "hidden-2048-256", "hidden-128", "gap-128"])
@pytest.mark.parametrize("dims", [2, 3])
def test_each_head_gives_one_logit_per_class(head: str, dims: int) -> None:
    network = build("vgg11-bn", spatial_dims=dims, head=head, in_channels=2, width=4)
    network.module.eval()
    logits_BL = network.module(torch.randn(2, 2, *(32,) * dims))
    assert logits_BL.shape == (2, 4) and logits_BL.isfinite().all() and not network.dense
    assert network.input_tensors == ("features.0.weight",)
    assert all(partition(network)[key] == "head" for key in network.head_tensors)


def plain_vgg(state: dict[str, Tensor], configuration: str, batch_BCIJ: Tensor) -> Tensor:
    """The network as the paper states it, in torch's functions, without batch norm or dropout."""
    place = 0
    for word in configuration.split():
        if word == "M":
            batch_BCIJ, place = torch.nn.functional.max_pool2d(batch_BCIJ, 2), place + 1
            continue
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        batch_BCIJ = torch.relu(torch.conv2d(batch_BCIJ, weight, bias, padding=1))
        place += 2
    batch_BF = torch.nn.functional.adaptive_avg_pool2d(batch_BCIJ, 7).flatten(1)
    for layer in (0, 3):
        weight, bias = state[f"classifier.{layer}.weight"], state[f"classifier.{layer}.bias"]
        batch_BF = torch.relu(batch_BF @ weight.T + bias)
    return batch_BF @ state["classifier.6.weight"].T + state["classifier.6.bias"]


def test_it_computes_what_the_paper_states() -> None:
    network = build("vgg13", width=4)
    batch_BCIJ = torch.randn(2, 3, 64, 64)
    found = network.module.eval()(batch_BCIJ)
    wanted = plain_vgg(network.module.state_dict(), CONFIGURATIONS["vgg13"], batch_BCIJ)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11", "vgg11-bn"])
def test_last_block_before_the_head_returns_its_activation(name: str) -> None:
    network = build(name, width=4)
    network.module.eval()
    features = block_features(network, torch.randn(1, 3, 64, 64), ("encoder4", "hidden"))
    assert features["encoder4"].shape == (1, 32, 4, 4)  # before the pooling: 64 / 2 ** 4
    assert features["encoder4"].min() == 0 < features["encoder4"].max()
    assert features["hidden"].shape == (1, 256) and features["hidden"].min() == 0


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_frozen_blocks_are_bitwise_unchanged(count: int) -> None:
    network = build("vgg11-bn", width=2)
    frozen = select_blocks(network, str(count))
    freeze(network, frozen)
    before = {key: tensor.detach().clone() for key, tensor in tensors(network).items()}
    train_mode(network, frozen)
    optimiser = torch.optim.SGD([p for p in network.module.parameters() if p.requires_grad], lr=1)
    network.module(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    moved = {key for key, t in tensors(network).items() if not torch.equal(t, before[key])}
    assert not moved & set(frozen)
    assert partition(network)["classifier.6.weight"] == "head" and "classifier.6.weight" in moved


def test_top_blocks_are_dropped() -> None:
    whole, cut = build("vgg16"), build("vgg16", keep_blocks=3)
    assert [block.name for block in whole.blocks][:3] == [b.name for b in cut.blocks][:-1]
    assert cut.blocks[-1].name == "head"
    assert parameters(cut, ("stem", "encoder1", "encoder2")) == parameters(
        whole, ("stem", "encoder1", "encoder2")
    )
    assert cut.module(torch.randn(1, 3, 64, 64)).shape == (1, 4)
    assert cut.module.classifier.weight.shape == (4, 32 * 49)
    kept = set(cut.module.state_dict()) - {"classifier.weight", "classifier.bias"}
    assert kept < set(whole.module.state_dict())


def test_slim_blocks_have_a_quarter_of_the_width_and_the_others_load() -> None:
    whole, slim = build("vgg11"), build("vgg11", slim_from=4, head="gap-128")
    shapes = [t.shape[0] for t in tensors(slim).values() if t.ndim == 4]
    assert shapes == [8, 16, 32, 32, 16, 16, 16, 16]
    state = {key: tensor.detach() for key, tensor in tensors(whole).items()}
    source = Weights(Path("w"), state, {"modalities": list(COLOURS)}, "state dict")
    receipt = transfer(slim, source, modalities=COLOURS, regions=CLASSES)
    carried = {row.block for row in receipt.tensors if row.status == "loaded" and row.numel > 64}
    assert carried == {"stem", "encoder1", "encoder2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 1}, "has no option 'heads'; it has head, keep_blocks, slim_from"),
        ({"head": "gap-12"}, "unknown head of vgg11 'gap-12'; did you mean 'gap-128'"),
        ({"head": 7}, "unknown head of vgg11 '7'"),
        ({"keep_blocks": 0}, r"1 to 6 \(stem, .*, hidden\), not 0"),
        ({"keep_blocks": 6, "head": "hidden-128"}, "1 to 5"),
        ({"keep_blocks": "two"}, "not 'two'"),
        ({"keep_blocks": 2, "slim_from": 3}, r"slim_from counts .* 1 to 2"),
        ({"patch_size": (16, 16)}, "cannot take patches of 16x16"),
    ],
)
def test_options_that_cannot_be_used_are_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build("vgg11", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("vgg11", "vgg11-bn", ("torchvision's vgg11 ", "vgg11-bn has batch norm, the file has")),
        ("vgg16-bn", "vgg16", ("torchvision's vgg16-bn", "the file has batch norm, vgg16 has")),
        (
            "vgg16",
            "vgg11",
            (
                "torchvision's vgg16",
                "features.5.weight in the file has the shape of features.3.weight",
            ),
        ),
    ],
)
def test_weights_of_another_vgg_are_refused_and_explained(
    source: str, target: str, says: tuple[str, str]
) -> None:
    with pytest.raises(WeightsError) as caught:
        transfer(build(target), narrowed(source), modalities=COLOURS, regions=CLASSES)
    assert all(words in str(caught.value) for words in says), caught.value
    assert "\n" not in str(caught.value)


def test_no_vgg_takes_the_weights_of_another() -> None:
    files = {name: narrowed(name, 32) for name in COMPONENTS}
    for target in COMPONENTS:
        network = build(target, width=2)
        assert transfer(network, files[target], modalities=COLOURS, regions=CLASSES)
        for source in COMPONENTS.keys() - {target}:
            with pytest.raises(WeightsError, match=f"torchvision's {source} ?[;(]"):
                transfer(network, files[source], modalities=COLOURS, regions=CLASSES)


def test_narrow_network_is_told_its_width() -> None:
    with pytest.raises(WeightsError, match="4 times as wide: try --width 32"):
        transfer(build("vgg11"), narrowed("vgg11", 2), modalities=COLOURS, regions=CLASSES)


def test_unknown_head_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError):
        build("vgg19", head="stock")


def test_heads_load_by_their_former_names() -> None:
    old, new = (build("vgg11", head=head, width=4) for head in ("s0-gap-128", "gap-128"))
    assert old.options["head"] == "s0-gap-128"  # as a checkpoint has recorded it
    shapes = [[tensor.shape for tensor in tensors(network).values()] for network in (old, new)]
    assert shapes[0] == shapes[1]
