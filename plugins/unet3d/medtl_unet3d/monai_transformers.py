"""MONAI's vision transformers under the block protocol; tensor names stay MONAI's own.

Both read the image twice, in the patch embedding and in a convolutional skip; both belong to the
stem.
The other skips belong to the decoder that they feed.
"""

from __future__ import annotations

from monai.networks import nets
from torch import nn

from medtl.networks.blocks import Network
from medtl.networks.builder import Architecture, finish, network_builder
from medtl_unet3d.layout import ladder, monai

UNETR_PATCH = 96


class _Idle(nn.Module):
    """Tensors that MONAI registers and never uses, as buffers: its checkpoints hold them, and
    training on several devices waits for a gradient of every parameter."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        for name, tensor in part.named_parameters():
            self.register_buffer(name, tensor.detach())


def _without_idle_parameters(module: nets.UNETR) -> nn.Module:
    for block in module.vit.blocks:
        if not block.with_cross_attention:
            block.norm_cross_attn = _Idle(block.norm_cross_attn)
    return module


def unetr(
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 3,
    width: int | None = None,
    patch_size: tuple[int, ...] | None = None,
) -> Network:
    """UNETR (Hatamizadeh et al. 2022), width 16: 768 hidden numbers per 16-cubed token.

    Its position embedding belongs to one patch size, 96 cubed as published unless stated.
    """
    width = 16 if width is None else width
    patch = patch_size or (UNETR_PATCH,) * spatial_dims
    return finish(
        "unetr",
        lambda channels, outputs: _without_idle_parameters(
            nets.UNETR(
                channels,
                outputs,
                img_size=patch,
                feature_size=width,
                hidden_size=48 * width,
                mlp_dim=4 * 48 * width,
                spatial_dims=spatial_dims,
            )
        ),
        ladder(
            [
                "vit.patch_embedding encoder1",
                *("vit.blocks.[0-2]", "vit.blocks.[3-5]", "vit.blocks.[6-8]"),
                "vit.blocks.9 vit.blocks.1[01] vit.norm",
            ],
            [*(f"encoder{level} decoder{level + 1}" for level in (4, 3, 2)), "decoder2"],
            "out",
        ),
        in_channels=in_channels,
        out_channels=out_channels,
        spatial_dims=spatial_dims,
        width=width,
        patch_multiple=16,
        patch_size=patch,
        fixed_patch=True,
    )


@network_builder("swin-unetr", width=48, patch_multiple=32)
def swin_unetr(spatial_dims: int, width: int) -> Architecture:
    """SwinUNETR (Hatamizadeh et al. 2022), width 48; other widths must be multiples of 12."""
    return (
        monai(nets.SwinUNETR, spatial_dims, feature_size=width),
        ladder(
            [
                "swinViT.patch_embed encoder1",
                *(f"swinViT.layers{level}" for level in (1, 2, 3)),
                "swinViT.layers4 encoder10",
            ],
            ["decoder5", *(f"encoder{level} decoder{level}" for level in (4, 3, 2)), "decoder1"],
            "out",
        ),
    )
