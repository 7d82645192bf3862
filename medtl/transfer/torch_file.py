"""Read files of ``torch.save`` without running any code that they contain."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medtl.errors import WeightsError
from medtl.transfer.nnunet_names import NNUNET, is_nnunet, nnunet_metadata

#: Keys of the state dict in checkpoints of other programs, tried in order.
WRAPPERS = ("state_dict", "network_weights", "model_state_dict", "model", "net", "network")


class _Ignored:
    """Replaces a NumPy object in a checkpoint, so that no function of NumPy's is called."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


#: Scalars and arrays that trainers such as nnU-Net's log with the weights.
_STAND_INS: list[Any] = [(_Ignored, "numpy.dtype"), (_Ignored, "numpy.ndarray")] + [
    (_Ignored, f"numpy.{core}.multiarray.{name}")
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
]


def read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # about TorchScript, which is an error below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(_why_unreadable(path, str(error))) from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not a state dict; save its state_dict()"
        )
    if is_nnunet(content):
        return _tensors_of(content["network_weights"]), nnunet_metadata(content), NNUNET
    form = "state dict"
    state: Mapping[Any, Any] = content
    while key := next((k for k in WRAPPERS if isinstance(state.get(k), Mapping) and state[k]), ""):
        form, state = f"checkpoint[{key!r}]", state[key]
    tensors = _tensors_of(state)
    if not tensors:
        keys = ", ".join(map(str, list(state)[:6])) or "none"
        raise WeightsError(f"{path} holds no state dict (its keys: {keys})")
    return tensors, {}, form


def _why_unreadable(path: Path, message: str) -> str:
    if "TorchScript" in message:
        return (
            f"{path} is a TorchScript program, not a state dict; where you trust it, save "
            "torch.jit.load(FILE).state_dict() with torch.save"
        )
    needs = re.search(r"GLOBAL ([\w.]+)", message)
    if needs is None:
        return f"{path} is truncated, damaged or no file of torch.save; fetch or write it again"
    return (
        f"{path} holds Python objects ({needs.group(1)}) that only running code could read, and "
        f"medtl never runs a file; where you trust it, re-save its tensors in Python: "
        f"w = torch.load({str(path)!r}, weights_only=False); "
        "torch.save(w.state_dict() if hasattr(w, 'state_dict') else w['state_dict'], 'weights.pt')"
    )


def _tensors_of(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(k): v.detach() for k, v in state.items() if isinstance(v, Tensor)}
