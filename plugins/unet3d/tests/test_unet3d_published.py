"""The networks against published figures and against MONAI built directly."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from monai.networks import nets
from monai.networks.nets.mednext import create_mednext
from torch import nn

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, execution_layers, freeze, select_blocks, tensors
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import Weights
from medtl_unet3d.plugin import PLANNED, PRIMUS, medtl_networks

BUILDERS = {component.name: component for component in medtl_networks()}
IN, OUT, CUBE = 4, 3, (96, 96, 96)
DOUBLING = (16, 32, 64, 128, 256)
BASIC = (32, 32, 64, 128, 256, 32)

#: MONAI's own constructors at the widths that this plugin calls published
DIRECT: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: nets.UNet(3, IN, OUT, DOUBLING, (2, 2, 2, 2), num_res_units=2),
    "unet-batch-norm": lambda: nets.UNet(
        3, IN, OUT, DOUBLING, (2, 2, 2, 2), num_res_units=2, norm="batch"
    ),
    "basic-unet": lambda: nets.BasicUNet(3, IN, OUT, BASIC),
    "basic-unet-plus-plus": lambda: nets.BasicUNetPlusPlus(3, IN, OUT, BASIC, True),
    "dynunet": lambda: nets.DynUNet(
        3,
        IN,
        OUT,
        [3] * 5,
        [1, 2, 2, 2, 2],
        [2] * 4,
        filters=[32, 64, 128, 256, 320],
        deep_supervision=True,
        deep_supr_num=2,
    ),
    "attention-unet": lambda: nets.AttentionUnet(3, IN, OUT, DOUBLING, (2, 2, 2, 2)),
    "regunet": lambda: nets.RegUNet(3, IN, 16, 4, out_channels=OUT, extract_levels=(0, 1, 2, 3, 4)),
    "segresnet": lambda: nets.SegResNet(3, 16, IN, OUT),
    "segresnet-ds": lambda: nets.SegResNetDS(
        3, 32, IN, OUT, norm="instance", blocks_down=(1, 2, 2, 4, 4), dsdepth=4
    ),
    "vnet": lambda: nets.VNet(3, IN, OUT),
    "highresnet": lambda: nets.HighResNet(3, IN, OUT),
    "mednext": lambda: create_mednext("S", 3, IN, OUT, deep_supervision=True),
    "unetr": lambda: nets.UNETR(IN, OUT, CUBE),
    "swin-unetr": lambda: nets.SwinUNETR(IN, OUT, feature_size=48),
}
READS_VALUES = {"swin-unetr"}  # while it is built, so it cannot be built on shapes alone


def build(name: str, **settings: object) -> Network:
    return BUILDERS[name].load()(**(dict(in_channels=IN, out_channels=OUT) | settings))


@pytest.fixture
def shapes_only(request):
    """Build without memory or initialisation where the network allows it."""
    if request.node.callspec.params["name"] in READS_VALUES:
        yield
    else:
        with torch.device("meta"):
            yield


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", list(DIRECT))
def test_state_dict_is_monai_s_own_so_its_checkpoints_load(name):
    ours, theirs = build(name).module.state_dict(), DIRECT[name]().state_dict()
    assert {key: t.shape for key, t in ours.items()} == {key: t.shape for key, t in theirs.items()}


def test_every_monai_network_is_compared():
    assert set(DIRECT) == set(BUILDERS) - {"unet3d", "unet2d-37", *PLANNED, *PRIMUS}


def test_s1_s_2d_unet_has_7759908_parameters_in_37_layers():
    network = build("unet2d-37", in_channels=2, out_channels=4)
    assert sum(p.numel() for p in network.module.parameters()) == 7_759_908
    order = execution_layers(network)
    kinds = [type(network.module.get_submodule(name)).__name__ for name in order]
    level, up = ["ConvReLU", "ConvReLU"], ["Upsample", "ConvReLU", "Concat", "ConvReLU", "ConvReLU"]
    assert kinds == [
        "Identity",
        *[*level, "MaxPool2d"] * 4,
        *level,
        "Dropout",
        *up * 4,
        "Conv2d",
    ]
    assert len(order) == 37


def test_freezing_25_layers_of_s1_s_unet_leaves_327204_trainable():
    network = build("unet2d-37", in_channels=2, out_channels=4)
    freeze(network, select_blocks(network, "layers:25"))
    trainable = {name: p for name, p in network.module.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trainable.values()) == 327_204
    assert next(iter(trainable)) == "decoder2.conv2.weight"


def test_the_even_kernel_pads_as_keras_does():
    network = build("unet2d-37", in_channels=2, out_channels=4, width=4)
    layer = network.module.decoder1.upconv
    nn.init.ones_(layer.weight)
    ones_BCIJ = torch.ones(1, layer.in_channels, 3, 3)
    expected = layer.in_channels * torch.tensor([[4.0, 4, 2], [4, 4, 2], [2, 2, 1]])
    assert torch.equal(layer(ones_BCIJ)[0, 0], expected)


def test_the_3d_unet_is_what_s1_s_text_asks_for():
    network = build("unet3d", in_channels=2, out_channels=4, width=4)
    leaves = [m for m in network.module.modules() if not list(m.children())]
    count = {kind: sum(type(leaf) is kind for leaf in leaves) for kind in map(type, leaves)}
    assert count == {nn.Conv3d: 19, nn.ReLU: 18, nn.MaxPool3d: 4, nn.ConvTranspose3d: 4}
    kernels = {leaf.kernel_size for leaf in leaves if isinstance(leaf, nn.Conv3d)}
    assert kernels == {(3, 3, 3), (1, 1, 1)}
    assert all(leaf.kernel_size == (2, 2, 2) for leaf in leaves if type(leaf) is nn.ConvTranspose3d)


def test_the_3d_unet_starts_at_the_scale_of_its_input():
    torch.manual_seed(0)
    network = build("unet3d", in_channels=2, out_channels=4, width=8)
    with torch.no_grad():
        logits_BLIJK = network.module(torch.randn(1, 2, 16, 16, 16))
    assert 0.1 < logits_BLIJK.std() < 10


def test_dynunet_s_twofold_registration_is_counted_once():
    network = build("dynunet", width=4)
    names = list(network.module.state_dict())
    assert len(names) > len(tensors(network))
    assert sum(t.numel() for t in tensors(network).values()) == sum(
        p.numel() for p in network.module.parameters()
    )


def test_dynunet_can_be_copied_after_a_training_step():
    network = build("dynunet", width=4)
    batch_BCIJK = torch.randn(1, IN, 32, 32, 32)
    network.module.train()
    network.module(batch_BCIJK).mean().backward()
    copied = deepcopy(network.module).eval()
    assert torch.equal(copied(batch_BCIJK), network.module.eval()(batch_BCIJK))


def test_vnet_of_the_published_width_computes_what_monai_s_does():
    theirs = nets.VNet(2, IN, OUT, dropout_dim=2).eval()
    network = build("vnet", spatial_dims=2)
    network.module.load_state_dict(theirs.state_dict())
    batch_BCIJ = torch.randn(1, IN, 16, 16)
    assert torch.equal(network.module.eval()(batch_BCIJ), theirs(batch_BCIJ))


def test_vnet_says_which_width_takes_three_contrasts():
    with pytest.raises(ConfigError, match="multiple of 3; try width 18"):
        build("vnet", in_channels=3)
    assert build("vnet", in_channels=3, width=18, spatial_dims=2).width == 18


def test_unetr_is_built_for_one_patch():
    with torch.device("meta"):
        assert build("unetr").patch_size == CUBE
        network = build("unetr", width=4, patch_size=(32, 48, 32))
    assert network.patch_size == (32, 48, 32)
    assert execution_layers(network)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("swin-unetr", {"width": 16}, "divisible by 12"),
        (
            "swin-unetr",
            {"width": 12, "patch_size": (32, 32, 32)},
            "cannot take patches of 32x32x32",
        ),
        ("unet", {"patch_size": (40, 48, 48)}, "multiples of 16, not 40x48x48"),
        ("unet2d-37", {"spatial_dims": 3}, "is a 2-D network"),
        ("unet3d", {"spatial_dims": 2}, "is a 3-D network"),
    ],
)
def test_what_a_network_cannot_take_is_one_clear_line(name, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(name, **settings)
    assert "\n" not in str(caught.value)


def test_unet3d_of_fewer_levels_is_the_whole_one_without_its_deep_end():
    numbers = dict(in_channels=2, out_channels=3, width=4)
    whole, cut = build("unet3d", **numbers), build("unet3d", **numbers, keep_blocks=3)
    assert [(block.name, block.role) for block in cut.blocks] == [
        ("stem", "stem"), ("encoder1", "encoder"), ("bottleneck", "bottleneck"),
        ("decoder1", "decoder"), ("decoder2", "decoder"), ("head", "head"),
    ]  # fmt: skip
    kept, every = ({k: v.shape for k, v in tensors(n).items()} for n in (cut, whole))
    assert kept.items() < every.items()
    state = {name: tensor.detach() for name, tensor in tensors(whole).items()}
    weights = Weights(Path("w"), state, {"modalities": ["t1", "t2"]}, "state dict")
    receipt = transfer(cut, weights, modalities=("t1", "t2"), regions=("a", "b", "c"))
    assert receipt.transferred == 1
    batch_BCIJK = torch.randn(1, 2, 16, 16, 16)
    skips_BCIJK = [batch_BCIJK]
    for part in ("stem", "encoder1", "encoder2"):
        skips_BCIJK.append(whole.module.get_submodule(part)(skips_BCIJK[-1]))
    up_BCIJK = whole.module.decoder3(skips_BCIJK[3], skips_BCIJK[2])
    wanted = whole.module.head(whole.module.decoder4(up_BCIJK, skips_BCIJK[1]))
    assert torch.equal(cut.module(batch_BCIJK), wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_blocks": 1}, "2 or more"),
        ({"keep_blocks": 6}, "1 to 5"),
        ({"slim_from": 2}, "has no option 'slim_from'; it has keep_blocks"),
    ],
)
def test_unet3d_takes_two_to_five_levels(options, message):
    with pytest.raises(ConfigError, match=message):
        build("unet3d", width=4, **options)
