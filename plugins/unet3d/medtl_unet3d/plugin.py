"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1

_OWN = (
    ("unet3d", "unet3d:unet3d", "3-D U-Net, two convolutions per level, no norm; keep_blocks"),
    ("unet2d-s1", "unet2d:unet2d_s1", "2-D U-Net of 37 layers, without norm; 7,759,908 parameters"),
)
_MONAI = (
    ("unet", "monai_unets:unet", "MONAI UNet with residual units, the fast default"),
    ("unet-batch-norm", "monai_unets:unet_batch_norm", "MONAI UNet, residual, batch norm"),
    ("basic-unet", "monai_unets:basic_unet", "MONAI BasicUNet (Falk et al. 2019)"),
    ("basic-unet-plus-plus", "monai_unets:basic_unet_plus_plus", "MONAI UNet++, nested skips"),
    ("dynunet", "monai_unets:dynunet", "MONAI DynUNet as nnU-Net lays it out, deep supervision"),
    ("attention-unet", "monai_unets:attention_unet", "MONAI AttentionUnet, gated skips"),
    ("regunet", "monai_unets:regunet", "MONAI RegUNet, additive skips, output from every level"),
    ("segresnet", "monai_residual:segresnet", "MONAI SegResNet (Myronenko 2018) without its VAE"),
    ("segresnet-ds", "monai_residual:segresnet_ds", "MONAI SegResNetDS of Auto3DSeg"),
    ("vnet", "monai_residual:vnet", "MONAI VNet (Milletari et al. 2016)"),
    ("highresnet", "monai_residual:highresnet", "MONAI HighResNet, dilated, never downsamples"),
    ("mednext", "monai_residual:mednext", "MONAI MedNeXt-S (Roy et al. 2023), deep supervision"),
    ("unetr", "monai_transformers:unetr", "MONAI UNETR, vision transformer for one patch size"),
    ("swin-unetr", "monai_transformers:swin_unetr", "MONAI SwinUNETR, patch edges of 64 and up"),
)


@hookimpl
def medtl_networks() -> list[Component]:
    return [
        Component(name, f"medtl_unet3d.{target}", f"segments: {summary}")
        for name, target, summary in (*_OWN, *_MONAI)
    ]
