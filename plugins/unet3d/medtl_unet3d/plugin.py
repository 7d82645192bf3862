"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1

PLANNED = {
    "plain-unet": "nnU-Net's U-Net, planned per axis, full resolution, deep supervision",
    "resenc-unet": "nnU-Net's U-Net with residual encoder, planned per axis",
}
PRIMUS = {"primus-m": "Primus-M (Wald et al. 2025), transformer for one patch size"}
MONAI_UNETS = {
    "unet": "MONAI UNet with residual units, the fast default",
    "unet-batch-norm": "MONAI UNet, residual, batch norm",
    "basic-unet": "MONAI BasicUNet (Falk et al. 2019)",
    "basic-unet-plus-plus": "MONAI UNet++, nested skips",
    "dynunet": "MONAI DynUNet with nnU-Net's architecture, deep supervision",
    "attention-unet": "MONAI AttentionUnet, gated skips",
    "regunet": "MONAI RegUNet, additive skips, output from every level",
}
MONAI_RESIDUAL = {
    "segresnet": "MONAI SegResNet (Myronenko 2018) without its VAE",
    "segresnet-ds": "MONAI SegResNetDS of Auto3DSeg",
    "vnet": "MONAI VNet (Milletari et al. 2016)",
    "highresnet": "MONAI HighResNet, dilated, never downsamples",
    "mednext": "MONAI MedNeXt-S (Roy et al. 2023), deep supervision",
}
MONAI_TRANSFORMERS = {
    "unetr": "MONAI UNETR, vision transformer for one patch size",
    "swin-unetr": "MONAI SwinUNETR, patch edges of 64 and up",
}
#: Former names; checkpoints of older runs hold them.
RENAMED = {"unet2d-s1": "unet2d-37"}


@hookimpl
def medtl_networks() -> list[Component]:
    modules = {
        "unet3d": {
            "unet3d": "3-D U-Net (Cicek et al. 2016) without norm, two convolutions per level; "
            "keep_blocks"
        },
        "unet2d": {"unet2d-37": "2-D U-Net of 37 layers, without norm; 7,759,908 parameters"},
        "planned": PLANNED,
        "primus": PRIMUS,
        "monai_unets": MONAI_UNETS,
        "monai_residual": MONAI_RESIDUAL,
        "monai_transformers": MONAI_TRANSFORMERS,
    }
    return [
        component
        for module, summaries in modules.items()
        for component in components(
            f"medtl_unet3d.{module}",
            {name: f"segments: {summary}" for name, summary in summaries.items()},
            RENAMED,
        )
    ]
