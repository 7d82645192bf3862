"""ImageNet weights by name, and a network's options from the command line to its checkpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from resnets import write_resnet
from typer.testing import CliRunner

from medtl.cli.weights import app
from medtl.errors import ConfigError, WeightsError
from medtl.networks.blocks import tensors
from medtl.networks.options import check_accepted, cut_blocks
from medtl.plugins.catalog import load_catalog
from medtl.transfer.imagenet import read_imagenet
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights, read_weights

BLOCKS = ("stem", "encoder1", "encoder2")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_absent_weights_are_one_line_that_says_how_to_get_them(hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        read_imagenet(load_catalog(), "resnet18", None)
    line = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in line
    assert str(hub) in line and "--weights FILE" in line and "\n" not in line


@pytest.mark.parametrize("name", ["resnet18-f37072fd.pth", "resnet18-5c106cde.pth"])
def test_any_version_in_the_hub_s_cache_is_found(hub: Path, name: str) -> None:
    write_resnet(hub / name)
    (hub / "resnet18-mine.pth").write_text("no weights")
    weights = read_imagenet(load_catalog(), "resnet18", None)
    assert weights.path == hub / name
    assert weights.modalities == ("red", "green", "blue")


def test_a_network_without_imagenet_weights_is_refused_unless_a_file_is_given(
    hub: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no weights for network unet3d"):
        read_imagenet(load_catalog(), "unet3d", None)
    file = write_resnet(tmp_path / "mine.pth")
    assert read_imagenet(load_catalog(), "unet3d", file).path == file


def test_a_grey_picture_is_answered_as_equal_colours_are() -> None:
    builder = load_catalog().networks["resnet18"].load()
    numbers = dict(out_channels=2, spatial_dims=2, width=4)
    colours, grey = builder(in_channels=3, **numbers), builder(in_channels=1, **numbers)
    state = {name: tensor.detach() for name, tensor in tensors(colours).items()}
    weights = Weights(Path("w"), state, {"modalities": ["red", "green", "blue"]}, "state dict")
    receipt = transfer(grey, weights, modalities=("image",), regions=("a", "b"))
    assert receipt.new_modalities == () and receipt.transferred == 1
    stem = next(row for row in receipt.tensors if row.name == "conv1.weight")
    assert (stem.status, stem.note) == ("adapted", "image = red+green+blue")
    image_BCIJ = torch.randn(2, 1, 32, 32)
    one, three = grey.module.eval(), colours.module.eval()
    assert torch.allclose(one(image_BCIJ), three(image_BCIJ.repeat(1, 3, 1, 1)), atol=1e-5)


def test_a_2d_file_is_looked_at_in_a_2d_network(tmp_path: Path) -> None:
    file = write_resnet(tmp_path / "mine.pth")
    words = ("--network", "resnet18", "--width", "4", "--modalities", "red,green,blue", "--json")
    result = CliRunner().invoke(app, ["inspect", str(file), *words], catch_exceptions=False)
    shares = json.loads(result.stdout)["receipt"]["shares"]
    assert shares["adapted"] == 0 and shares["loaded"] > 0.99


def test_blocks_count_from_the_stem() -> None:
    assert cut_blocks("n", BLOCKS, 2).channels((8, 16, 32)) == (8, 16)
    assert cut_blocks("n", BLOCKS, None, 2).channels((8, 16, 32)) == (8, 4, 8)
    assert cut_blocks("n", BLOCKS, 2, 1).channels((8, 2, 32)) == (2, 1)
    for number in (0, 4, True, "2", 1.0):
        with pytest.raises(ConfigError, match=re.escape(f"not {number!r}")):
            cut_blocks("n", BLOCKS, number)


def test_a_builder_without_options_refuses_them() -> None:
    with pytest.raises(ConfigError, match="network unetr has no option 'head'; it has none"):
        check_accepted("unetr", load_catalog().networks["unetr"].load(), {"head": "x"})
    with pytest.raises(ConfigError, match="network unet has no option 'head'; it has none"):
        load_catalog().networks["unet"].load()(in_channels=1, out_channels=1, head="x")


@pytest.mark.parametrize("modalities", [("image",), ("t1",), ("t1", "t2"), ("t1", "t2", "flair")])
@pytest.mark.parametrize("prefix", ["", "module.encoder."])
def test_a_file_gives_one_first_layer_whichever_way_it_is_given(
    tmp_path: Path, modalities: tuple[str, ...], prefix: str
) -> None:
    builder = load_catalog().networks["resnet18"].load()
    colours = builder(in_channels=3, out_channels=5, spatial_dims=2, width=4)
    state = {prefix + name: tensor.detach() for name, tensor in tensors(colours).items()}
    torch.save(state, tmp_path / "w.pth")
    first = []
    for weights in (
        read_weights(tmp_path / "w.pth"),
        read_imagenet(load_catalog(), "resnet18", tmp_path / "w.pth"),
    ):
        network = builder(in_channels=len(modalities), out_channels=2, spatial_dims=2, width=4)
        transfer(network, weights, modalities=modalities, regions=("a", "b"))
        first.append(tensors(network)["conv1.weight"].detach())
    assert torch.equal(*first)
    if modalities == ("image",):  # a grey picture has equal colours: their sum, by hand
        assert torch.allclose(first[0], state[f"{prefix}conv1.weight"].sum(1, keepdim=True))


def test_a_grey_file_is_taken_as_it_is_whichever_way_it_is_given(tmp_path: Path) -> None:
    builder = load_catalog().networks["resnet18"].load()
    grey = builder(in_channels=1, out_channels=5, spatial_dims=2, width=4)
    torch.save(dict(tensors(grey)), tmp_path / "w.pth")
    weights = read_imagenet(load_catalog(), "resnet18", tmp_path / "w.pth")
    network = builder(in_channels=1, out_channels=2, spatial_dims=2, width=4)
    transfer(network, weights, modalities=("t1",), regions=("a", "b"))
    assert torch.equal(tensors(network)["conv1.weight"], tensors(grey)["conv1.weight"])
