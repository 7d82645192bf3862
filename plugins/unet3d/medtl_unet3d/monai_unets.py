"""MONAI's U-Nets under the block protocol; the names of their tensors stay MONAI's own.

Axes: B batch, C channel, H head, L label or region, I J K voxel axes.
"""

from __future__ import annotations

import torch
from monai.networks import nets
from torch import Tensor

from medtl.networks.builder import Architecture, network_builder
from medtl_unet3d.layout import ladder

DOUBLING = (1, 2, 4, 8, 16)
REGUNET_DEPTH = 4


def _nested(level: int, rest: str) -> str:
    """A pattern inside the skip connections that MONAI nests into one another, level 0 outside."""
    return "model." + "1.submodule." * level + rest


@network_builder("unet", width=16, patch_multiple=16)
def unet(spatial_dims: int, width: int) -> Architecture:
    """UNet with two residual units per level (Kerfoot et al. 2018), width * (1, 2, 4, 8, 16).

    Its first unit already halves the resolution, which makes it the fastest network here. Width 16
    is that of MONAI's tutorials. Instance norm, MONAI's default, suits batches of one or two.
    """
    return _residual_unet(spatial_dims, width, "instance")


@network_builder("unet-batch-norm", width=16, patch_multiple=16)
def unet_batch_norm(spatial_dims: int, width: int) -> Architecture:
    """UNet as ``unet``, with batch norm: what it says of a voxel depends on what surrounds the
    voxel, not on how much background the window shows. For larger batches."""
    return _residual_unet(spatial_dims, width, "batch")


def _residual_unet(spatial_dims: int, width: int, norm: str) -> Architecture:
    return (
        lambda channels, outputs: nets.UNet(
            spatial_dims,
            channels,
            outputs,
            channels=[width * factor for factor in DOUBLING],
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm=norm,
        ),
        ladder(
            stem="model.0.*",
            encoders=[_nested(level, "0.*") for level in (1, 2, 3)],
            bottleneck=_nested(4, "*"),
            decoders=[_nested(level, "2.*") for level in (3, 2, 1)],
            head="model.2.*",
        ),
    )


@network_builder("basic-unet", width=32, patch_multiple=16)
def basic_unet(spatial_dims: int, width: int) -> Architecture:
    """BasicUNet (Falk et al. 2019): two convolutions per level, max pooling; width 32."""
    return (
        lambda channels, outputs: nets.BasicUNet(
            spatial_dims, channels, outputs, features=_basic_features(width)
        ),
        ladder(
            stem="conv_0.*",
            encoders=["down_1.*", "down_2.*", "down_3.*"],
            bottleneck="down_4.*",
            decoders=["upcat_4.*", "upcat_3.*", "upcat_2.*", "upcat_1.*"],
            head="final_conv.*",
        ),
    )


def _basic_features(width: int) -> list[int]:
    return [width * factor for factor in (1, 1, 2, 4, 8, 1)]


class BasicUNetPlusPlus(nets.BasicUNetPlusPlus):
    """MONAI's, but inference returns the finest logits alone and training puts them first."""

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        coarse_to_fine = super().forward(x)
        return coarse_to_fine[::-1] if self.training else coarse_to_fine[-1]


@network_builder("basic-unet-plus-plus", width=32, patch_multiple=16)
def basic_unet_plus_plus(spatial_dims: int, width: int) -> Architecture:
    """UNet++ (Zhou et al. 2018) with deep supervision; width 32.

    A decoder block is one column of its grid: all nodes that need the same encoder level.
    """
    columns = [tuple(f"upcat_{level - n}_{n}.*" for n in range(1, level + 1)) for level in range(5)]
    return (
        lambda channels, outputs: BasicUNetPlusPlus(
            spatial_dims,
            channels,
            outputs,
            features=_basic_features(width),
            deep_supervision=True,
        ),
        ladder(
            stem="conv_0_0.*",
            encoders=["conv_1_0.*", "conv_2_0.*", "conv_3_0.*"],
            bottleneck="conv_4_0.*",
            decoders=columns[1:],
            head="final_conv_0_*",
        ),
    )


class DynUNet(nets.DynUNet):
    """MONAI's, but it lets go of the supervised maps that it kept from a forward.

    They would hold the graph's memory until the next step and make copies of the module fail.
    """

    def forward(self, x: Tensor) -> Tensor:
        logits_BHLIJK = super().forward(x)
        for head in range(len(self.heads)):
            self.heads[head] = torch.empty(0)
        return logits_BHLIJK


@network_builder("dynunet", width=32, patch_multiple=16)
def dynunet(spatial_dims: int, width: int) -> Architecture:
    """DynUNet with nnU-Net's layout (Isensee et al. 2021) in five levels; width 32.

    The channels double per level up to 320 (512 in 2-D). Two heads besides the last one are
    supervised in training; all return logits at full resolution.
    """
    most = 320 if spatial_dims == 3 else 512
    strides = (1, 2, 2, 2, 2)
    return (
        lambda channels, outputs: DynUNet(
            spatial_dims,
            channels,
            outputs,
            kernel_size=(3,) * len(strides),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=[min(width * factor, max(most, width)) for factor in DOUBLING],
            deep_supervision=True,
            deep_supr_num=2,
        ),
        ladder(
            stem="input_block.*",
            encoders=[f"downsamples.{level}.*" for level in range(3)],
            bottleneck="bottleneck.*",
            decoders=[f"upsamples.{level}.*" for level in range(4)],
            head=("output_block.*", "deep_supervision_heads.*"),
        ),
    )


@network_builder("attention-unet", width=16, patch_multiple=16)
def attention_unet(spatial_dims: int, width: int) -> Architecture:
    """AttentionUnet (Oktay et al. 2018), width * (1, 2, 4, 8, 16); width 16."""
    gated = [
        tuple(_nested(level, f"1.{part}.*") for part in ("upconv", "attention", "merge"))
        for level in (3, 2, 1, 0)
    ]
    return (
        lambda channels, outputs: nets.AttentionUnet(
            spatial_dims,
            channels,
            outputs,
            channels=[width * factor for factor in DOUBLING],
            strides=(2, 2, 2, 2),
        ),
        ladder(
            stem="model.0.*",
            encoders=[_nested(level, "0.*") for level in (1, 2, 3)],
            bottleneck=_nested(4, "*"),
            decoders=gated,
            head="model.2.*",
        ),
    )


@network_builder("regunet", width=16, patch_multiple=2**REGUNET_DEPTH)
def regunet(spatial_dims: int, width: int) -> Architecture:
    """RegUNet of DeepReg (Fu et al. 2020) with additive skips; width 16.

    The logits are the mean over outputs extracted from every level.
    """
    depth = REGUNET_DEPTH
    return (
        lambda channels, outputs: nets.RegUNet(
            spatial_dims,
            channels,
            num_channel_initial=width,
            depth=depth,
            out_channels=outputs,
            extract_levels=tuple(range(depth + 1)),
        ),
        ladder(
            stem="encode_convs.0.*",
            encoders=[f"encode_convs.{level}.*" for level in range(1, depth)],
            bottleneck="bottom_block.*",
            decoders=[
                (f"decode_deconvs.{level}.*", f"decode_convs.{level}.*") for level in range(depth)
            ],
            head="output_block.*",
        ),
    )
