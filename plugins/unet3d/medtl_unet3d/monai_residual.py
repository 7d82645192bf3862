"""MONAI's residual networks under the block protocol; tensor names stay MONAI's own."""

from __future__ import annotations

from math import ceil, gcd, lcm

from monai.networks import nets
from monai.networks.nets.highresnet import DEFAULT_LAYER_PARAMS_3D
from monai.networks.nets.vnet import (
    DownTransition,
    InputTransition,
    OutputTransition,
    UpTransition,
)
from torch import nn

from medtl.errors import ConfigError
from medtl.networks.builder import Architecture, network_builder
from medtl_unet3d.layout import ladder, monai


@network_builder("segresnet", width=16, patch_multiple=8)
def segresnet(spatial_dims: int, width: int) -> Architecture:
    """SegResNet (Myronenko 2018) as MONAI's BraTS bundle sets it: width 16, dropout .2.

    A width that 8 does not divide gets fewer groups in its group norm.
    """
    norm = ("GROUP", {"num_groups": gcd(8, width)})
    return (
        monai(nets.SegResNet, spatial_dims, init_filters=width, dropout_prob=0.2, norm=norm),
        ladder(
            ["convInit", *(f"down_layers.{level}" for level in range(4))],
            [f"up_samples.{level} up_layers.{level}" for level in range(3)],
            "conv_final",
        ),
    )


@network_builder("segresnet-ds", width=32, patch_multiple=16)
def segresnet_ds(spatial_dims: int, width: int) -> Architecture:
    """SegResNetDS as Auto3DSeg sets it: width 32, five levels, four supervised resolutions."""
    levels = range(5)
    network = monai(
        nets.SegResNetDS,
        spatial_dims,
        init_filters=width,
        norm="instance",
        blocks_down=(1, 2, 2, 4, 4),
        dsdepth=4,
    )
    return network, ladder(
        ["encoder.conv_init", *(f"encoder.layers.{level}" for level in levels)],
        [f"up_layers.{level}.upsample up_layers.{level}.blocks" for level in levels[:-1]],
        "up_layers.*.head",
    )


class VNet(nets.VNet):
    """MONAI's with a choice of width; 16 gives the published network."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int) -> None:
        nn.Module.__init__(self)
        step = lcm(2, in_channels)
        if width % step:
            raise ConfigError(
                f"vnet adds its input, repeated, to its first {width} channels, so its width must "
                f"be even and a multiple of {in_channels}; try width {ceil(16 / step) * step}"
            )
        dims, act, both = spatial_dims, ("elu", {"inplace": True}), (0.5, 0.5)
        self.in_tr = InputTransition(dims, in_channels, width, act)
        self.down_tr32 = DownTransition(dims, width, 1, act)
        self.down_tr64 = DownTransition(dims, 2 * width, 2, act)
        self.down_tr128 = DownTransition(dims, 4 * width, 3, act, 0.5, dropout_dim=dims)
        self.down_tr256 = DownTransition(dims, 8 * width, 2, act, 0.5, dropout_dim=dims)
        self.up_tr256 = UpTransition(dims, 16 * width, 16 * width, 2, act, both, dims)
        self.up_tr128 = UpTransition(dims, 16 * width, 8 * width, 2, act, both, dims)
        self.up_tr64 = UpTransition(dims, 8 * width, 4 * width, 1, act, dropout_dim=dims)
        self.up_tr32 = UpTransition(dims, 4 * width, 2 * width, 1, act, dropout_dim=dims)
        self.out_tr = OutputTransition(dims, 2 * width, out_channels, act)


@network_builder("vnet", width=16, patch_multiple=16)
def vnet(spatial_dims: int, width: int) -> Architecture:
    """VNet (Milletari et al. 2016); the input channels must divide the width, 16."""
    return (
        monai(VNet, spatial_dims, width=width),
        ladder(
            ["in_tr", "down_tr32", "down_tr64", "down_tr128", "down_tr256"],
            ["up_tr256", "up_tr128", "up_tr64", "up_tr32"],
            "out_tr",
        ),
    )


class HighResNet(nets.HighResNet):
    """MONAI's without the ReLU after the last layer: logits must be able to be negative."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int) -> None:
        scaled = [dict(layer) for layer in DEFAULT_LAYER_PARAMS_3D]
        for layer in scaled:
            if "n_features" in layer:
                layer["n_features"] = layer["n_features"] * width // 16
        super().__init__(spatial_dims, in_channels, out_channels, layer_params=scaled)
        del self.blocks[-1].adn.A


@network_builder("highresnet", width=16)
def highresnet(spatial_dims: int, width: int) -> Architecture:
    """HighResNet (Li et al. 2017): dilated residual blocks at full resolution; width 16.

    It takes patches of any size, but much memory, as nothing is downsampled.
    """
    return (
        monai(HighResNet, spatial_dims, width=width),
        ladder(
            ["blocks.0", "blocks.[1-3]", "blocks.[4-6]", "blocks.[7-9]"], ["blocks.10"], "blocks.11"
        ),
    )


@network_builder("mednext", width=32, patch_multiple=16)
def mednext(spatial_dims: int, width: int) -> Architecture:
    """MedNeXt-S with 3x3x3 kernels (Roy et al. 2023) and deep supervision; width 32."""
    levels = range(4)
    network = monai(
        nets.MedNeXt,
        spatial_dims,
        init_filters=width,
        kernel_size=3,
        deep_supervision=True,
        use_residual_connection=True,
    )
    return network, ladder(
        ["stem", *(f"enc_stages.{level} down_blocks.{level}" for level in levels), "bottleneck"],
        [f"up_blocks.{level} dec_stages.{level}" for level in levels],
        "out_0 out_blocks",
    )
