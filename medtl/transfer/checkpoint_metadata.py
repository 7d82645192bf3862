"""What a medtl checkpoint says of its weights.

It is the JSON under the metadata key ``medtl`` of the safetensors file. The checkpoint of the best
weights also holds ``best_step`` and the score that selected it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class NetworkRecord(BaseModel):
    """How the network was built."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str
    width: int | None
    in_channels: int | None = None
    out_channels: int | None = None
    spatial_dims: int
    patch_size: tuple[int, ...]
    options: dict[str, Any] = {}


class CheckpointMetadata(BaseModel):
    """Everything that prediction needs beside the weights; all of it is plain JSON."""

    model_config = ConfigDict(frozen=True)

    network: NetworkRecord
    task: str
    kind: str = "segmentation"
    stage: str
    domain: str  #: selector of the domain that the stage is scored on
    modalities: tuple[str, ...]  #: order of the input channels
    regions: tuple[str, ...]  #: order of the output channels
    nested: bool = False  #: each region lies within the one before it
    exclusive: bool = False  #: no voxel is in two regions
    names: Mapping[str, Any] | None = None  #: see :attr:`medtl.data.task.Task.names`
    preprocessing: dict[str, Any]  #: preset and spacing, see Preset.to_json
    seen: tuple[str, ...]  #: content hashes of the training images of every stage
    steps: int | None = None  #: optimiser steps of every stage so far; None: unknown
    synthetic: bool
    response_rms: dict[str, float] = {}  #: see medtl.transfer.response.measure_response
    min_component_ml: float = 0.0  #: smaller components of the first region are dropped
    temperature: float = 1.0  #: logits of class probabilities are divided by it
    temperature_fitted_on: int = 0  #: number of validation cases; 0: not fitted
    patches_at_once: int | None = None  #: only where the memory did not hold a whole batch

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> CheckpointMetadata:
        """Read the metadata of a checkpoint. Raises ValueError, in one line, for damaged ones."""
        try:
            metadata = cls.model_validate(dict(recorded))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        missing = {"nested", "min_component_ml"} - metadata.model_fields_set
        if metadata.kind == "segmentation" and missing:
            raise ValueError(f"{', '.join(sorted(missing))}: Field required")
        return metadata

    def to_json(self) -> dict[str, Any]:
        """The fields that were given, as plain data."""
        return self.model_dump(mode="json", exclude_unset=True)
