"""Weights as if read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from medtl.transfer.weights import Weights


def weights_of(
    values: Mapping[str, Tensor],
    modalities: Iterable[str],
    regions: Iterable[str],
    **metadata: object,
) -> Weights:
    """Weights of a network that medtl trained on these modalities and regions."""
    named = {"modalities": list(modalities), "regions": list(regions), **metadata}
    return Weights(Path("source.safetensors"), dict(values), named, "medtl")
