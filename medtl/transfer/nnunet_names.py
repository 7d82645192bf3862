"""nnU-Net v2 checkpoints: their tensor names as MONAI's DynUNet names.

nnU-Net's PlainConvUNet and MONAI's DynUNet are one architecture under two naming schemes, with
one difference: nnU-Net's convolutions have a bias, which the instance norm after each cancels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

NNUNET = "nnU-Net v2"


_ENCODER = re.compile(r"encoder\.stages\.(\d+)\.0\.convs\.([01])\.(conv|norm)\.(weight|bias)")


_DECODER = re.compile(r"decoder\.stages\.(\d+)\.convs\.([01])\.(conv|norm)\.(weight|bias)")


_UPSAMPLE = re.compile(r"decoder\.transpconvs\.(\d+)\.(weight|bias)")


_HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(weight|bias)")


def is_nnunet(content: Mapping[Any, Any]) -> bool:
    return isinstance(content.get("network_weights"), Mapping) and "trainer_name" in content


def dynunet_names(names: Iterable[str]) -> dict[str, str]:
    """nnU-Net's tensor names -> DynUNet's, for a PlainConvUNet of two convolutions per stage.

    The same module is registered up to four times in nnU-Net (``all_modules``,
    ``decoder.encoder``); only the first is named. Empty for other architectures.
    """
    names = list(names)
    encoders = [int(m[1]) for name in names if (m := _ENCODER.fullmatch(name))]
    if not encoders or any(".convs.2." in name for name in names):
        return {}
    last = max(encoders)
    mapped = ((name, _dynunet_name(name, last)) for name in names)
    return {name: target for name, target in mapped if target is not None}


def is_cancelled_bias(name: str) -> bool:
    """Whether this is a convolution's bias that the instance norm after it cancels."""
    match = _ENCODER.fullmatch(name) or _DECODER.fullmatch(name)
    return match is not None and match[3] == "conv" and match[4] == "bias"


def _dynunet_name(name: str, last: int) -> str | None:
    """``last`` is the number of the deepest encoder stage."""
    if match := _ENCODER.fullmatch(name):
        stage = int(match[1])
        block = "input_block" if stage == 0 else f"downsamples.{stage - 1}"
        return _layer("bottleneck" if stage == last else block, match)
    if match := _DECODER.fullmatch(name):
        return _layer(f"upsamples.{match[1]}.conv_block", match)
    if match := _UPSAMPLE.fullmatch(name):
        return f"upsamples.{match[1]}.transp_conv.conv.{match[2]}"
    if match := _HEAD.fullmatch(name):
        # nnU-Net counts heads from the deepest, DynUNet from the second finest.
        depth = last - 1 - int(match[1])
        head = "output_block" if depth == 0 else f"deep_supervision_heads.{depth - 1}"
        return f"{head}.conv.conv.{match[2]}"
    return None


def _layer(block: str, match: re.Match[str]) -> str | None:
    number, kind, role = int(match[2]) + 1, match[3], match[4]
    if kind == "norm":
        return f"{block}.norm{number}.{role}"
    return None if role == "bias" else f"{block}.conv{number}.conv.weight"
