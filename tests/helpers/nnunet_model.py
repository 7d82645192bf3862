"""A checkpoint as nnU-Net v2 writes it, with the network of medtl under nnU-Net's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from medtl.plugins.catalog import load_catalog

CONFIGURATION: dict[str, Any] = {
    "patch_size": [16, 24, 16],
    "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
    },
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"order": 1, "order_z": 0, "force_separate_z": None},
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [8, 16, 32],
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "dropout_op": None,
            "nonlin": "torch.nn.LeakyReLU",
        },
    },
}

PLANS: dict[str, Any] = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {},
}

LABELS = {"background": 0, "front": 1, "back": 2}


def write_model(path: Path, labels: dict[str, Any] | None = None, **changes: Any) -> nn.Module:
    """Write the checkpoint; returns its network, which has an output for the background, too."""
    content = {**PLANS, "configurations": {"3d_fullres": {**CONFIGURATION, **changes}}}
    made = CONFIGURATION["architecture"]["arch_kwargs"]
    torch.manual_seed(0)
    network: nn.Module = (
        load_catalog()
        .networks["plain-unet"]
        .load()(
            in_channels=1,
            out_channels=3,
            strides=made["strides"],
            kernels=made["kernel_sizes"],
            channels=made["features_per_stage"],
        )
        .module.eval()
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "init_args": {
            "plans": content,
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {
                "channel_names": {"0": "MRI"},
                "labels": labels or LABELS,
                "file_ending": ".nii.gz",
            },
        },
    }
    torch.save(checkpoint, path)
    return network
