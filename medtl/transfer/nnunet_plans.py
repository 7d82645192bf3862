"""What an nnU-Net v2 checkpoint says of its model, as medtl's own metadata.

The plans and the dataset.json stand in the checkpoint itself. Axes are nnU-Net's: those of the
stored image backwards (slices first), after its ``transpose_forward``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from medtl.data.formats.label_names import Regions, channel_names, dataset_regions
from medtl.errors import DataError, MedtlError
from medtl.networks.blocks import per_axis
from medtl.transforms.nnunet import NnunetRecipe
from medtl.transforms.presets import NNUNET, Preset

#: The key of the reason why a model cannot predict here, in the metadata of its checkpoint.
REASON = "cannot_predict"

#: nnU-Net's networks by the last part of their class's name.
_NETWORKS = {"PlainConvUNet": "plain-unet", "ResidualEncoderUNet": "resenc-unet"}

_NORMALISATIONS = (
    *("ZScoreNormalization", "CTNormalization", "NoNormalization"),
    *("RescaleTo01Normalization", "RGBTo01Normalization"),
)

_READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")

_RESAMPLING = "resample_data_or_seg_to_shape"

#: Statistics of the foreground's intensities that scale CT, in the order of a preset's window.
_WINDOW = ("percentile_00_5", "percentile_99_5", "mean", "std")


class _Unsupported(MedtlError):
    """A model that medtl cannot run as nnU-Net does; says why."""


def model_metadata(content: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """medtl's metadata of a checkpoint of nnU-Net: network, labels and preprocessing.

    What cannot be run here has only its channels, and under ``cannot_predict`` the reason.
    """
    arguments = content.get("init_args")
    if not isinstance(arguments, Mapping):
        return {REASON: "it holds no plans"}
    dataset = arguments.get("dataset_json")
    try:
        channels = list(channel_names(_mapping(dataset, "dataset.json").get("channel_names"), path))
    except MedtlError as problem:
        return {REASON: str(problem)}
    try:
        return _metadata(content, _mapping(dataset, "dataset.json"), arguments, channels, path)
    except (_Unsupported, DataError) as problem:
        return {"modalities": channels, REASON: str(problem)}
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        return {"modalities": channels, REASON: f"its plans are incomplete ({problem})"}


def _metadata(
    content: Mapping[Any, Any],
    dataset: Mapping[str, Any],
    arguments: Mapping[Any, Any],
    channels: Sequence[str],
    path: Path,
) -> dict[str, Any]:
    plans = _mapping(arguments.get("plans"), "plans")
    configuration = _configuration(plans, str(arguments.get("configuration")))
    regions = dataset_regions(dataset, path)
    if regions is None:
        raise _Unsupported("its dataset.json names no labels")
    combined = any(len(values) > 1 for values in regions.values.values())
    patch = [int(edge) for edge in configuration["patch_size"]]
    if len(patch) != 3:
        raise _Unsupported(f"its configuration is {len(patch)}-D; take the 3-D one")
    every = "mod:" + "+".join(channels)
    return {
        "network": {
            **_network(plans, configuration),
            "in_channels": len(channels),
            "out_channels": len(regions.values),
            "spatial_dims": 3,
            "patch_size": patch,
        },
        "task": "segmentation",
        "kind": "segmentation",
        "stage": str(arguments.get("configuration")),
        "domain": every,
        "modalities": list(channels),
        "regions": list(_in_order(regions, dataset, combined=combined)),
        "nested": False,
        "exclusive": not combined,
        "softmax": not combined,
        "names": {"channels": list(channels), **regions.to_json()},
        "preprocessing": _preprocessing(content, plans, configuration, len(channels)).to_json(),
        "seen": [],
        "synthetic": False,
        "min_component_ml": 0.0,
    }


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _Unsupported(f"it holds no {what}")
    return value


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration, with what it inherits."""
    known = _mapping(plans.get("configurations"), "configurations")
    chain: list[Mapping[str, Any]] = []
    while True:
        own = _mapping(known.get(name), f"configuration {name!r}")
        if any(own is one for one in chain):
            raise _Unsupported(f"configuration {name!r} inherits from itself")
        chain.append(own)
        if "inherits_from" not in own:
            break
        name = str(own["inherits_from"])
    merged = {key: value for one in reversed(chain) for key, value in one.items()}
    if merged.get("previous_stage"):
        raise _Unsupported("it is the second step of a cascade, which takes the first one's masks")
    return merged


def _in_order(regions: Regions, dataset: Mapping[str, Any], *, combined: bool) -> list[str]:
    """The regions in the order of the outputs: of the file, or of the label values."""
    if combined:
        return [name for name in dataset["labels"] if name in regions.values]
    values = {name: own[0] for name, own in regions.values.items()}
    return sorted(values, key=lambda name: values[name])


def _network(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Name, width and options; from version 2.5 on the class's arguments, before that numbers."""
    stated = configuration.get("architecture")
    if isinstance(stated, Mapping):
        name, made = str(stated["network_class_name"]).rpartition(".")[2], stated["arch_kwargs"]
        if made.get("dropout_op") or not made.get("conv_bias", True):
            raise _Unsupported(f"its {name} has dropout, or convolutions without bias")
        for key, wanted in (("norm_op", "InstanceNorm3d"), ("nonlin", "LeakyReLU")):
            if not str(made[key]).endswith(wanted):
                raise _Unsupported(f"its {name} has {key} {made[key]}, not {wanted}")
        channels = made["features_per_stage"]
        encoder = made.get("n_conv_per_stage", made.get("n_blocks_per_stage"))
        decoder, strides = made["n_conv_per_stage_decoder"], made["strides"]
        kernels = made["kernel_sizes"]
    else:
        name = str(configuration["UNet_class_name"])
        strides, kernels = (
            configuration["pool_op_kernel_sizes"],
            configuration["conv_kernel_sizes"],
        )
        first, most = (
            int(configuration["UNet_base_num_features"]),
            int(configuration["unet_max_num_features"]),
        )
        channels = [min(most, first * 2**level) for level in range(len(strides))]
        encoder = configuration["n_conv_per_stage_encoder"]
        decoder = configuration["n_conv_per_stage_decoder"]
    if name not in _NETWORKS:
        known = " and ".join(_NETWORKS)
        raise _Unsupported(f"its network is {name}; {known} are known")
    levels = len(strides)
    options: dict[str, list[Any]] = {
        "strides": _per_axis(strides),
        "kernels": _per_axis(kernels),
        "channels": _per_level(channels, levels),
        "blocks": _per_level(encoder, levels),
        "decoder_blocks": _per_level(decoder, levels - 1),
    }
    return {"name": _NETWORKS[name], "width": options["channels"][0], "options": options}


def _per_axis(rows: Sequence[Any]) -> list[list[int]]:
    return [[int(n) for n in per_axis(row, 3)] for row in rows]


def _per_level(given: Any, levels: int) -> list[int]:
    return [int(n) for n in given] if isinstance(given, list | tuple) else [int(given)] * levels


def _preprocessing(
    content: Mapping[Any, Any],
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    channels: int,
) -> Preset:
    spacing_mm = [float(mm) for mm in configuration["spacing"]]
    recipe = _recipe(content, plans, configuration, channels)
    return replace(NNUNET.with_spacing(spacing_mm), nnunet=recipe)


def _recipe(
    content: Mapping[Any, Any],
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    channels: int,
) -> NnunetRecipe:
    reader = str(plans["image_reader_writer"])
    if reader not in _READERS:
        raise _Unsupported(f"it reads images by {reader}; {', '.join(_READERS)} are known")
    for part in ("data", "probabilities"):
        if configuration[f"resampling_fn_{part}"] != _RESAMPLING:
            raise _Unsupported(f"it resamples by {configuration[f'resampling_fn_{part}']}")
        settings = configuration[f"resampling_fn_{part}_kwargs"]
        if settings.get("force_separate_z") is not None or settings.get("order_z") != 0:
            raise _Unsupported(f"it resamples slices by settings of its own: {settings}")
    schemes = [str(name) for name in configuration["normalization_schemes"]]
    if unknown := sorted(set(schemes) - set(_NORMALISATIONS)):
        raise _Unsupported(f"it normalises by {', '.join(unknown)}")
    statistics = plans.get("foreground_intensity_properties_per_channel", {})
    mirrored = content.get("inference_allowed_mirroring_axes")
    recipe: dict[str, Any] = {
        "schemes": schemes[:channels],
        "masked": [bool(each) for each in configuration["use_mask_for_norm"]][:channels],
        "windows": [
            [float(statistics[str(n)][name]) for name in _WINDOW]
            if scheme == "CTNormalization"
            else []
            for n, scheme in enumerate(schemes[:channels])
        ],
        "transpose": [int(axis) for axis in plans["transpose_forward"]],
        "reorient": reader == "NibabelIOWithReorient",
        "order": int(configuration["resampling_fn_data_kwargs"]["order"]),
        "mirror": [int(axis) for axis in mirrored] if mirrored else [],
    }
    found = NnunetRecipe.from_json(recipe)
    if min(len(found.schemes), len(found.masked)) < channels:
        raise _Unsupported("its plans normalise fewer channels than it has")
    return found


def relative_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with outputs relative to the background's, the first of a softmax.

    The softmax and the most likely class stay the same; the background has no output then.
    """
    return {
        name: (tensor[1:].double() - tensor[:1].double()).to(tensor.dtype)
        if ".seg_layers." in f".{name}" and tensor.ndim and tensor.shape[0] > 1
        else tensor
        for name, tensor in tensors.items()
    }
