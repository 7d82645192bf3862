"""Weights into networks: every tensor is accounted for, and refusals leave no trace.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import Tensor, nn
from typer.testing import CliRunner

from medtl.cli.weights import app
from medtl.errors import ConfigError, MedtlError, UnknownNameError, WeightsError
from medtl.networks.blocks import Block, Network, tensors
from medtl.networks.layers import Conv2dReLU
from medtl.plugins.catalog import load_catalog
from medtl.transfer.receipt import Receipt, ReceiptRow
from medtl.transfer.response import calibrate_response, measure_response, norm_follows
from medtl.transfer.transfer import load_exactly, transfer
from medtl.transfer.weights import Weights, read_weights, write_checkpoint

FLAIR_T1CE, T1_T2 = ("flair", "t1ce"), ("t1", "t2")
REGIONS = ("WT", "TC", "ET")


def unet(in_channels: int = 2, out_channels: int = 3, width: int = 4, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = UNet(
        3, in_channels, out_channels, (width, 2 * width, 4 * width), (2, 2), num_res_units=2
    )
    blocks = (
        Block("stem", "stem", ("model.0.*",)),
        Block("middle", "encoder", ("model.1.*",)),
        Block("head", "head", ("model.2.*",)),
    )
    inputs = ("model.0.conv.unit0.conv.weight", "model.0.residual.weight")
    layers = ("model.2.0.conv", "model.2.1.conv.unit0.conv")
    heads = tuple(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))
    return Network("unet", module, blocks, in_channels, out_channels, 3, width, inputs, heads, 4)


def dynunet(in_channels: int = 2, out_channels: int = 3, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = DynUNet(
        3, in_channels, out_channels, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 16],
        deep_supervision=True, deep_supr_num=2, trans_bias=True,
    )  # fmt: skip
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    blocks = (
        Block("stem", "stem", ("input_block.*",)),
        Block("encoder", "encoder", ("downsamples.*", "bottleneck.*")),
        Block("decoder", "decoder", ("upsamples.*",)),
        Block("head", "head", ("output_block.*", "deep_supervision_heads.*")),
    )
    heads = [
        f"{h}.conv.conv" for h in ("output_block", *map("deep_supervision_heads.{}".format, (0, 1)))
    ]
    return Network(
        "dynunet", module, blocks, in_channels, out_channels, 3, 4,
        ("input_block.conv1.conv.weight",),
        tuple(f"{head}.{kind}" for head in heads for kind in ("weight", "bias")), 8,
    )  # fmt: skip


def segresnet(in_channels: int, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = SegResNet(3, 8, in_channels, 3, blocks_down=(1, 1), blocks_up=(1,))
    blocks = (Block("all", "encoder", ("*",)),)
    return Network(
        "segresnet", module, blocks, in_channels, 3, 3, 8, ("convInit.conv.weight",), (), 2
    )


def weights_of(source: Network, modalities=FLAIR_T1CE, regions=REGIONS, **metadata) -> Weights:
    return checkpoints.weights_of(source.module.state_dict(), modalities, regions, **metadata)


def snapshot(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors(network).items()}


def unchanged(network: Network, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in tensors(network).items())


def status(receipt: Receipt) -> dict[str, str]:
    return {row.name: row.status for row in receipt.tensors}


def row(receipt: Receipt, name: str) -> ReceiptRow:
    return next(row for row in receipt.tensors if row.name == name)


def output(network: Network, batch_BCIJK: Tensor) -> Tensor:
    network.module.eval()
    with torch.no_grad():
        return network.module(batch_BCIJK)


@pytest.mark.parametrize("build", [unet, dynunet])
def test_the_same_network_and_names_are_loaded_whole(build):
    source, target = build(seed=0), build(seed=1)
    receipt = transfer(target, weights_of(source), modalities=FLAIR_T1CE, regions=REGIONS)
    assert receipt.shares == {"loaded": 1.0, "adapted": 0.0, "random": 0.0}
    assert receipt.notes == () and receipt.new_modalities == ()
    assert unchanged(target, snapshot(source))


@pytest.mark.parametrize("build", [unet, dynunet])
def test_a_checkpoint_file_restores_the_network(build, tmp_path):
    source, target = build(seed=0), build(seed=1)
    write_checkpoint(tmp_path / "w", source.module.state_dict(), {})
    load_exactly(target, read_weights(tmp_path / "w"))
    assert unchanged(target, snapshot(source))


def test_restore_refuses_all_but_the_very_network():
    target = unet(width=8)
    before = snapshot(target)
    with pytest.raises(WeightsError, match=r"source\.safetensors does not fit unet: model\.0"):
        load_exactly(target, weights_of(unet()))
    lacking = weights_of(unet(width=8))
    del lacking.tensors["model.2.0.conv.bias"]
    with pytest.raises(WeightsError, match=r"model\.2\.0\.conv\.bias is \(3,\), the file lacks it"):
        load_exactly(target, lacking)
    assert unchanged(target, before)


def registered_networks() -> list[str]:
    return [name.partition(":")[2] for name in load_catalog().networks]


def least(name: str, in_channels: int, out_channels: int) -> Network:
    """The network at the least width that it takes."""
    for width in (4, 8, 12, 16):
        try:
            return (
                load_catalog()
                .networks[name]
                .load()(in_channels=in_channels, out_channels=out_channels, width=width)
            )
        except ConfigError:
            continue
    pytest.fail(f"{name} takes no width up to 16")


@pytest.mark.parametrize("name", registered_networks())
def test_the_receipt_adds_up_for_every_network(name):
    source, target = least(name, 2, 3), least(name, 2, 3)
    receipt = transfer(target, weights_of(source), modalities=T1_T2, regions=("ET", "WT", "TC"))
    rows = [row for row in receipt.tensors if row.status != "skipped"]
    assert [row.name for row in rows] == list(tensors(target))
    assert sum(r.numel for r in rows if r.parameter) == sum(
        p.numel() for p in target.module.parameters()
    )
    assert sum(receipt.shares.values()) == pytest.approx(1)
    assert receipt.transferred == 1 and len(rows) == len(receipt.tensors)
    adapted = {row.name for row in rows if row.status == "adapted"}
    assert adapted == {*target.input_tensors, *target.head_tensors}
    assert receipt.new_modalities == T1_T2


@pytest.mark.parametrize("build", [unet, dynunet])
def test_swapping_two_new_modalities_changes_the_output(build):
    target = build(seed=1)
    transfer(target, weights_of(build()), modalities=T1_T2, regions=REGIONS)
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    straight, swapped = output(target, batch_BCIJK), output(target, batch_BCIJK.flip(1))
    assert float((straight - swapped).abs().max()) > 0.01 * float(straight.std())


def test_reordered_modalities_give_the_same_output():
    source, target = unet(), unet(seed=1)
    receipt = transfer(target, weights_of(source), modalities=("t1ce", "flair"), regions=REGIONS)
    assert {name for name, s in status(receipt).items() if s == "adapted"} == {
        *source.input_tensors
    }
    assert receipt.new_modalities == ()
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    assert torch.allclose(
        output(target, batch_BCIJK.flip(1)), output(source, batch_BCIJK), atol=1e-5
    )


def test_new_modalities_come_from_their_nearest_in_every_first_layer():
    source, target = unet(), unet(seed=1)
    receipt = transfer(target, weights_of(source), modalities=T1_T2, regions=REGIONS)
    for name in source.input_tensors:
        old, new = tensors(source)[name].detach(), tensors(target)[name]
        mean = float((old[:, 0].norm() + old[:, 1].norm()) / 2)
        for index, origin in ((0, 1), (1, 0)):
            factor = mean / float(old[:, origin].norm())
            assert torch.allclose(new[:, index], old[:, origin] * factor)
            assert row(receipt, name).factors[T1_T2[index]] == pytest.approx(factor)
    assert receipt.identical_modalities == ()


def test_another_channel_count_is_scaled_only_where_no_norm_follows():
    target = unet(4)
    names = ("flair", "t1", "t1ce", "t2")
    receipt = transfer(target, weights_of(unet()), modalities=names, regions=REGIONS)
    normed, shortcut = (row(receipt, name).factors for name in target.input_tensors)
    assert "all" not in normed
    assert shortcut["all"] == pytest.approx(0.5**0.5)
    assert receipt.identical_modalities == (("flair", "t2"), ("t1", "t1ce"))
    assert any("t1 and t1ce start with equal weights" in note for note in receipt.notes)


def test_norm_follows_sees_through_shortcuts_and_stored_statistics():
    network = unet()
    before, modes = snapshot(network), [m.training for m in network.module.modules()]
    assert [norm_follows(network, name) for name in network.input_tensors] == [True, False]
    assert unchanged(network, before)
    assert [m.training for m in network.module.modules()] == modes
    assert norm_follows(dynunet(), "input_block.conv1.conv.weight")
    assert not norm_follows(segresnet(2), "convInit.conv.weight")
    with torch.no_grad():
        for name in network.head_tensors:
            tensors(network)[name].zero_()
    assert not norm_follows(network, network.input_tensors[0])


def test_batch_norm_with_stored_statistics_is_no_normalisation():
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU(), nn.Conv3d(2, 1, 1))
    network = Network(
        "bn", module, (Block("all", "encoder", ("*",)),), 1, 1, 3, 2, ("0.weight",), ()
    )
    assert not norm_follows(network, "0.weight")


def test_calibration_restores_the_response_where_no_norm_follows():
    source, target = unet(), unet(4)
    images_BCIJK = torch.randn(2, 1, 16, 16, 16).repeat(1, 4, 1, 1, 1)  # fully correlated contrasts
    images_BCIJK[..., :4] = 0  # background
    wanted = measure_response(source, images_BCIJK[:, :2])
    names = ("flair", "t1", "t1ce", "t2")
    receipt = transfer(target, weights_of(source), modalities=names, regions=REGIONS)
    normed, shortcut = target.input_tensors
    kept = tensors(target)[normed].clone()
    off = wanted[shortcut] / measure_response(target, images_BCIJK)[shortcut]
    receipt = calibrate_response(target, receipt, wanted, images_BCIJK)
    assert measure_response(target, images_BCIJK)[shortcut] == pytest.approx(wanted[shortcut], 1e-4)
    assert row(receipt, shortcut).factors["response"] == pytest.approx(off, 1e-4)
    assert torch.equal(tensors(target)[normed], kept)


def test_calibration_leaves_layers_that_were_carried_over_as_they_were():
    target = segresnet(2, seed=1)
    receipt = transfer(target, weights_of(segresnet(2)), modalities=FLAIR_T1CE, regions=())
    before = snapshot(target)
    wanted = {"convInit.conv.weight": 7.0}
    assert calibrate_response(target, receipt, wanted, torch.randn(1, 2, 16, 16, 16)) == receipt
    assert unchanged(target, before)


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dReLU])
def test_the_response_is_measured_in_the_foreground_without_bias(kind):
    layer = kind(1, 1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, -100.0)
    blocks = (Block("all", "stem", ("*",)),)
    network = Network("one", nn.Sequential(layer), blocks, 1, 1, 2, 1, ("0.weight",), ())
    image_BCIJ = torch.tensor([[[[3.0, 0.0, 0.0], [0.0, 0.0, 4.0]]]])
    assert measure_response(network, image_BCIJ) == {"0.weight": pytest.approx(2 * 12.5**0.5)}


def test_heads_follow_their_regions_by_name():
    source, target = unet(), unet(out_channels=3, seed=1)
    regions = ("ET", "WT", "TC")
    receipt = transfer(target, weights_of(source), modalities=FLAIR_T1CE, regions=regions)
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    assert torch.allclose(
        output(target, batch_BCIJK), output(source, batch_BCIJK)[:, [2, 0, 1]], atol=1e-5
    )
    assert {row(receipt, name).status for name in target.head_tensors} == {"adapted"}


def test_a_head_may_take_some_of_the_regions():
    source, target = dynunet(), dynunet(out_channels=2, seed=1)
    transfer(target, weights_of(source), modalities=FLAIR_T1CE, regions=("ET", "WT"))
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    assert torch.allclose(
        output(target, batch_BCIJK), output(source, batch_BCIJK)[:, [2, 0]], atol=1e-5
    )


@pytest.mark.parametrize(
    ("known", "wanted"),
    [(REGIONS, ("WT", "TC", "RC")), (REGIONS, ("WT", "TC", "ET", "RC")), ((), ("WT",))],
)
def test_a_head_of_other_regions_stays_random(known, wanted):
    target = unet(out_channels=len(wanted), seed=1)
    before = snapshot(target)
    receipt = transfer(
        target, weights_of(unet(), regions=known), modalities=FLAIR_T1CE, regions=wanted
    )
    for name in target.head_tensors:
        if row(receipt, name).status == "random":
            assert torch.equal(tensors(target)[name], before[name])
    assert row(receipt, "model.2.0.conv.weight").status == "random"


def test_a_head_without_names_is_taken_in_order_and_said_so():
    source, target = unet(), unet(seed=1)
    receipt = transfer(
        target, weights_of(source, regions=()), modalities=FLAIR_T1CE, regions=REGIONS
    )
    assert receipt.shares["loaded"] == 1
    assert any("outputs are taken in order" in note for note in receipt.notes)


def test_weights_of_another_architecture_are_refused_and_nothing_is_written():
    target = unet(width=8)
    before = snapshot(target)
    weights = weights_of(unet(), network={"name": "unet", "width": 4})
    with pytest.raises(WeightsError) as caught:
        transfer(target, weights, modalities=FLAIR_T1CE, regions=REGIONS)
    message = str(caught.value)
    assert "source.safetensors: only " in message and "network unet of width 4" in message
    assert "(16, 2, 3, 3, 3)" not in message  # this network's is (8, ...), the file's (4, ...)
    assert "model.0.conv.unit0.conv.weight (8, 2, 3, 3, 3): the file has (4, 2, 3, 3, 3)" in message
    assert "--allow-partial" in message and "\n" not in message
    assert unchanged(target, before)


def test_partial_transfer_goes_on_when_allowed():
    target = unet(width=8)
    receipt = transfer(
        target, weights_of(dynunet()), modalities=FLAIR_T1CE, regions=REGIONS, allow_partial=True
    )
    assert receipt.transferred < 0.5
    assert sum(receipt.shares.values()) == pytest.approx(1)
    skipped = [row.name for row in receipt.tensors if row.status == "skipped"]
    assert "input_block.conv1.conv.weight" in skipped
    assert not any(name.startswith("skip_layers") for name in skipped)  # further names, no tensors


def test_blocks_left_random_on_purpose_do_not_count_as_misfits():
    target = unet(seed=1)
    before = snapshot(target)
    receipt = transfer(
        target,
        weights_of(unet()),
        modalities=FLAIR_T1CE,
        regions=REGIONS,
        reinit=("middle", "head"),
    )
    assert receipt.transferred < 0.5
    kept = {row.name for row in receipt.tensors if row.block != "stem"}
    assert all(torch.equal(tensors(target)[name], before[name]) for name in kept)
    assert {row.status for row in receipt.tensors if row.block == "stem"} == {"loaded"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"reinit": ("tail",)}, UnknownNameError),
        ({"mapping": {"ct": "flair"}}, ConfigError),
        ({"mapping": {"t1": "ct"}}, ConfigError),
        ({"modalities": ("t1",)}, ConfigError),
        ({"source_modalities": ("flair",)}, MedtlError),
    ],
)
def test_names_that_are_not_there_are_errors_and_nothing_is_written(options, error):
    target = unet(seed=1)
    before = snapshot(target)
    with pytest.raises(error):
        transfer(target, weights_of(unet()), **{"modalities": T1_T2, "regions": REGIONS, **options})
    assert unchanged(target, before)


def test_unnamed_channels_of_the_same_number_are_taken_in_order_and_said_so():
    source, target = unet(), unet(seed=1)
    receipt = transfer(target, weights_of(source, ()), modalities=T1_T2, regions=REGIONS)
    assert receipt.shares["loaded"] == 1
    assert any("taken to be t1, t2" in note for note in receipt.notes)
    with pytest.raises(ConfigError, match="init-modalities"):
        transfer(
            target,
            weights_of(source, ()),
            modalities=T1_T2,
            regions=REGIONS,
            mapping={"t1": "t1ce"},
        )


def test_unnamed_channels_of_another_number_start_as_their_mean():
    source, target = unet(), unet(3, seed=1)
    names = ("t1", "t2", "pd")
    receipt = transfer(target, weights_of(source, ()), modalities=names, regions=REGIONS)
    assert receipt.new_modalities == names and len(receipt.identical_modalities) == 3
    weight = tensors(target)[source.input_tensors[0]]
    assert torch.equal(weight[:, 0], weight[:, 2])


def test_stated_source_modalities_go_before_the_files():
    source, target, oracle = unet(), unet(seed=1), unet(seed=2)
    transfer(
        target,
        weights_of(source, ()),
        modalities=T1_T2,
        regions=REGIONS,
        source_modalities=FLAIR_T1CE,
    )
    transfer(oracle, weights_of(source), modalities=T1_T2, regions=REGIONS)
    assert unchanged(target, snapshot(oracle))


def test_other_number_types_are_cast():
    source, target = unet(), unet(seed=1)
    weights = weights_of(source)
    weights.tensors.update({k: v.half() for k, v in weights.tensors.items()})
    receipt = transfer(target, weights, modalities=FLAIR_T1CE, regions=REGIONS)
    assert row(receipt, "model.2.0.conv.bias").note == "cast from torch.float16"
    assert all(tensor.dtype == torch.float32 for tensor in tensors(target).values())
    weights.tensors["model.2.0.conv.bias"] = torch.zeros(3, dtype=torch.int8)
    receipt = transfer(target, weights, modalities=FLAIR_T1CE, regions=REGIONS)
    assert row(receipt, "model.2.0.conv.bias").status == "random"


@pytest.mark.parametrize("rename", [lambda n: f"net.{n}", lambda n: n.removeprefix("model.")])
def test_names_behind_another_prefix_are_found(rename):
    source, target = unet(), unet(seed=1)
    weights = weights_of(source)
    renamed = {rename(name): tensor for name, tensor in weights.tensors.items()}
    weights = Weights(weights.path, renamed, weights.metadata, "state dict")
    receipt = transfer(target, weights, modalities=FLAIR_T1CE, regions=REGIONS)
    assert receipt.shares["loaded"] == 1 and unchanged(target, snapshot(source))


class StackedConvs(nn.Module):
    """nnU-Net's block: conv, instance norm, leaky ReLU, twice; each module under two names."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for first, second, step in ((inputs, outputs, stride), (outputs, outputs, 1)):
            layer = nn.Module()
            layer.conv = nn.Conv3d(first, second, 3, step, 1)
            layer.norm = nn.InstanceNorm3d(second, affine=True)
            layer.all_modules = nn.Sequential(layer.conv, layer.norm, nn.LeakyReLU(0.01))
            self.convs.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.convs:
            x = layer.all_modules(x)
        return x


class PlainConvUNet(nn.Module):
    """nnU-Net v2's network as its state dict shows it, decoder counted from the deepest stage."""

    def __init__(self, filters: tuple[int, ...]) -> None:
        super().__init__()
        inputs, strides = (2, *filters), (1, 2, 2, 2)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.stages = nn.Sequential(
            *(nn.Sequential(StackedConvs(inputs[i], f, strides[i])) for i, f in enumerate(filters))
        )
        self.decoder.encoder = self.encoder
        ups = list(zip(filters[:0:-1], filters[-2::-1], strict=True))
        self.decoder.transpconvs = nn.ModuleList(nn.ConvTranspose3d(d, u, 2, 2) for d, u in ups)
        self.decoder.stages = nn.ModuleList(StackedConvs(2 * u, u, 1) for _, u in ups)
        self.decoder.seg_layers = nn.ModuleList(nn.Conv3d(u, 3, 1) for _, u in ups)

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = []
        for stage in self.encoder.stages:
            x = stage(x)
            skips.append(x)
        outputs = []
        decoder = self.decoder
        for number, skip in enumerate(skips[-2::-1]):
            x = torch.cat((decoder.transpconvs[number](x), skip), 1)
            x = decoder.stages[number](x)
            outputs.append(decoder.seg_layers[number](x))
        return outputs[::-1]


def test_nnunet_weights_give_dynunet_the_same_outputs(tmp_path):
    torch.manual_seed(3)
    nnunet = PlainConvUNet((4, 8, 16, 16))
    for parameter in nnunet.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.save({"network_weights": nnunet.state_dict(), "trainer_name": "t"}, tmp_path / "c.pth")
    target = dynunet()
    receipt = transfer(
        target, read_weights(tmp_path / "c.pth"), modalities=FLAIR_T1CE, regions=REGIONS
    )
    assert receipt.shares["loaded"] == 1
    skipped = {row.note for row in receipt.tensors if row.status == "skipped"}
    assert skipped == {"cancelled by the norm behind it"}
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    target.module.train()
    with torch.no_grad():
        wanted, found = nnunet(batch_BCIJK), target.module(batch_BCIJK)
    for depth, logits in enumerate(wanted):
        scaled = nn.functional.interpolate(logits, scale_factor=2**depth)
        assert torch.allclose(found[:, depth], scaled, atol=1e-4)


def test_other_nnunet_architectures_are_explained(tmp_path):
    state = {"encoder.stem.convs.0.conv.weight": torch.ones(4, 2, 3, 3, 3)}
    torch.save({"network_weights": state, "trainer_name": "t"}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="PlainConvUNet alone fits, and only dynunet"):
        transfer(
            dynunet(), read_weights(tmp_path / "c.pth"), modalities=FLAIR_T1CE, regions=REGIONS
        )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    builder = load_catalog().networks["unet"].load()
    network = builder(in_channels=2, out_channels=3, width=4)
    metadata = {
        "network": {"name": "unet", "width": 4, "spatial_dims": 3, "options": {}},
        "modalities": ["flair", "t1ce"],
        "regions": list(REGIONS),
        "seen": ["ab"],
    }
    write_checkpoint(tmp_path / "w.safetensors", network.module.state_dict(), metadata)
    return tmp_path / "w.safetensors"


def inspect(*words: str) -> str:
    result = CliRunner().invoke(
        app, ["inspect", *words], catch_exceptions=False, terminal_width=200
    )
    assert result.exit_code == 0
    return result.stdout


def test_inspect_prints_one_json_object_with_the_receipt(checkpoint):
    words = [str(checkpoint), "--network", "unet", "--modalities", "t1,t2w", "--map", "t1=flair"]
    facts = json.loads(inspect(*words, "--json"))
    assert (facts["format"], facts["seen"], facts["regions"]) == ("medtl", 1, list(REGIONS))
    receipt = facts["receipt"]
    assert receipt["new_modalities"] == ["t1", "t2"]
    assert receipt["identical_modalities"] == [["t1", "t2"]]
    assert receipt["shares"]["random"] == 0 and sum(receipt["shares"].values()) == pytest.approx(1)


def test_inspect_says_in_words_what_was_trained_on_and_no_empty_options(checkpoint):
    text = inspect(str(checkpoint))
    assert "trained or validated on" in " ".join(text.split()) and "1 image" in text
    assert "seen" not in text and "{}" not in text


def test_inspect_prints_every_block_and_the_sum(checkpoint):
    text = inspect(str(checkpoint), "--network", "unet")
    for words in ("flair, t1ce", "stem", "bottleneck", "head", "100.0%"):
        assert words in text
    assert "refuses" not in text
    assert "training refuses it without --allow-partial: only 0%" in inspect(
        str(checkpoint), "--network", "unet3d"
    )


def test_inspect_asks_for_modalities_that_nobody_states(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="state --modalities"):
        inspect(str(tmp_path / "w.pt"), "--network", "unet")
