"""MONAI's U-Nets under the block protocol; the names of their tensors stay MONAI's own.

Axes: B batch, C channel, H head, L label or region, I J K voxel axes.
"""

from __future__ import annotations

import torch
from monai.networks import nets
from torch import Tensor

from medtl.networks.builder import Architecture, network_builder
from medtl_unet3d.layout import ladder, monai

DOUBLING = (1, 2, 4, 8, 16)
STRIDES = (2, 2, 2, 2)
REGUNET_DEPTH = 4
#: MONAI nests the levels of a U-Net into one another; the modules that lead down, level by level.
NESTED = ("model", *("model." + ".".join(["1.submodule"] * level) for level in (1, 2, 3, 4)))
NESTED_DOWN = (*(f"{level}.0" for level in NESTED[:-1]), NESTED[-1])


@network_builder("unet", width=16, patch_multiple=16)
def unet(spatial_dims: int, width: int) -> Architecture:
    """UNet with two residual units per level (Kerfoot et al. 2018), width * (1, 2, 4, 8, 16).

    Its first unit already halves the resolution, which makes it the fastest network here. Width 16
    is that of MONAI's tutorials. Instance norm, MONAI's default, suits batches of one or two.
    """
    return _residual_unet(spatial_dims, width, "instance")


@network_builder("unet-batch-norm", width=16, patch_multiple=16)
def unet_batch_norm(spatial_dims: int, width: int) -> Architecture:
    """UNet as ``unet``, with batch norm, for larger batches.

    Its output at a voxel depends on the surroundings of the voxel, not on the share of background
    in the window.
    """
    return _residual_unet(spatial_dims, width, "batch")


def _residual_unet(spatial_dims: int, width: int, norm: str) -> Architecture:
    channels = [width * factor for factor in DOUBLING]
    settings = {"channels": channels, "strides": STRIDES, "num_res_units": 2, "norm": norm}
    return (
        monai(nets.UNet, spatial_dims, **settings),
        ladder(NESTED_DOWN, [f"{level}.2" for level in NESTED[3:0:-1]], "model.2"),
    )


@network_builder("basic-unet", width=32, patch_multiple=16)
def basic_unet(spatial_dims: int, width: int) -> Architecture:
    """BasicUNet (Falk et al. 2019): two convolutions per level, max pooling; width 32."""
    return (
        monai(nets.BasicUNet, spatial_dims, features=_basic_features(width)),
        ladder(
            ["conv_0", *(f"down_{level}" for level in (1, 2, 3, 4))],
            [f"upcat_{level}" for level in (4, 3, 2, 1)],
            "final_conv",
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
    columns = [range(1, level + 1) for level in (1, 2, 3, 4)]
    features = _basic_features(width)
    return (
        monai(BasicUNetPlusPlus, spatial_dims, features=features, deep_supervision=True),
        ladder(
            [f"conv_{level}_0" for level in range(5)],
            [" ".join(f"upcat_{len(nodes) - n}_{n}" for n in nodes) for nodes in columns],
            " ".join(f"final_conv_0_{n}" for n in (1, 2, 3, 4)),
        ),
    )


class DynUNet(nets.DynUNet):
    """MONAI's, but it does not keep the supervised maps after a forward pass.

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
    most = max(320 if spatial_dims == 3 else 512, width)
    network = monai(
        DynUNet,
        spatial_dims,
        kernel_size=(3,) * len(DOUBLING),
        strides=(1, *STRIDES),
        upsample_kernel_size=STRIDES,
        filters=[min(width * factor, most) for factor in DOUBLING],
        deep_supervision=True,
        deep_supr_num=2,
    )
    return network, ladder(
        ["input_block", *(f"downsamples.{level}" for level in range(3)), "bottleneck"],
        [f"upsamples.{level}" for level in range(4)],
        "output_block deep_supervision_heads",
    )


@network_builder("attention-unet", width=16, patch_multiple=16)
def attention_unet(spatial_dims: int, width: int) -> Architecture:
    """AttentionUnet (Oktay et al. 2018), width * (1, 2, 4, 8, 16); width 16."""
    channels = [width * factor for factor in DOUBLING]
    return (
        monai(nets.AttentionUnet, spatial_dims, channels=channels, strides=STRIDES),
        ladder(
            NESTED_DOWN,
            [f"{level}.1.upconv {level}.1.attention {level}.1.merge" for level in NESTED[3::-1]],
            "model.2",
        ),
    )


@network_builder("regunet", width=16, patch_multiple=2**REGUNET_DEPTH)
def regunet(spatial_dims: int, width: int) -> Architecture:
    """RegUNet of DeepReg (Fu et al. 2020) with additive skips; width 16.

    The logits are the mean over outputs extracted from every level.
    """
    depth = REGUNET_DEPTH
    network = monai(
        nets.RegUNet,
        spatial_dims,
        num_channel_initial=width,
        depth=depth,
        extract_levels=tuple(range(depth + 1)),
    )
    return network, ladder(
        [*(f"encode_convs.{level}" for level in range(depth)), "bottom_block"],
        [f"decode_deconvs.{level} decode_convs.{level}" for level in range(depth)],
        "output_block",
    )
