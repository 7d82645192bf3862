"""What a medtl checkpoint says of its weights.

It is the JSON under the metadata key ``medtl`` of the safetensors file. The checkpoint of the best
weights also holds ``best_step`` and the score that selected it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from medtl.runtime.records import Count, Flag, FolderName, Number, Record, complaint

#: Voxels along an edge of a patch, channels, names; what medtl writes stays far below.
MOST_VOXELS, MOST_CHANNELS, MOST_NAMES = 2**16, 2**20, 10_000

Channels = Annotated[int, Field(strict=True, ge=1, le=MOST_CHANNELS)]

Names = Annotated[tuple[str, ...], Field(max_length=MOST_NAMES)]

NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]

Above0 = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]


def _known_dims(patch_size: tuple[int, ...]) -> tuple[int, ...]:
    if not 2 <= len(patch_size) <= 3:
        raise PydanticCustomError("size", "Input should be 2 or 3 whole numbers")
    return patch_size


class NetworkRecord(Record):
    """How the network was built."""

    name: str
    width: Channels | None
    in_channels: Channels | None = None
    out_channels: Channels | None = None
    spatial_dims: Annotated[int, Field(strict=True, ge=2, le=3)]
    patch_size: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=MOST_VOXELS)], ...],
        AfterValidator(_known_dims),
    ]
    options: dict[str, Any] = Field(default_factory=dict)


class PreprocessingRecord(BaseModel):
    """What :meth:`medtl.transforms.presets.Preset.to_json` gives, as far as it is read back."""

    model_config = ConfigDict(frozen=True, extra="allow")

    preset: str
    spacing_mm: Above0 | tuple[Above0, ...] | None = None
    windows: dict[str, tuple[Number, ...]] = {}
    size: tuple[Annotated[int, Field(strict=True, ge=1, le=MOST_VOXELS)], ...] = ()
    augmentation: dict[str, Any]
    harmonise: dict[str, Any] | None = None


class CheckpointMetadata(BaseModel):
    """Everything that prediction needs beside the weights; all of it is plain JSON."""

    model_config = ConfigDict(frozen=True)

    network: NetworkRecord
    task: str
    kind: str = "segmentation"
    stage: FolderName
    domain: str  #: selector of the domain that the stage is scored on
    modalities: Names  #: order of the input channels
    regions: Names  #: order of the output channels
    nested: Flag = False  #: each region lies within the one before it
    exclusive: Flag = False  #: no voxel is in two regions
    softmax: Flag = False  #: the outputs are logits of a softmax, the background's being 0
    names: Mapping[str, Any] | None = None  #: see :attr:`medtl.data.task.Task.names`
    preprocessing: dict[str, Any]  #: preset and spacing, see Preset.to_json
    seen: tuple[str, ...]  #: content hashes of the training images of every stage
    steps: Count | None = None  #: optimiser steps of every stage so far; None: unknown
    synthetic: Flag
    response_rms: dict[str, NotNegative] = {}  #: see medtl.transfer.response.measure_response
    min_component_ml: NotNegative = 0.0  #: smaller components of the first region are dropped
    temperature: Above0 = 1.0  #: logits of class probabilities are divided by it
    temperature_fitted_on: Count = 0  #: number of validation cases; 0: not fitted
    patches_at_once: Count | None = None  #: only where the memory did not hold a whole batch

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> CheckpointMetadata:
        """Read the metadata of a checkpoint. Raises ValueError, in one line, for damaged ones."""
        try:
            metadata = cls.model_validate(dict(recorded))
            PreprocessingRecord.model_validate(metadata.preprocessing)
        except ValidationError as error:
            raise ValueError(complaint(error.errors()[0])) from error
        missing = {"nested", "min_component_ml"} - metadata.model_fields_set
        if metadata.kind == "segmentation" and missing:
            raise ValueError(f"{', '.join(sorted(missing))}: is missing")
        return metadata

    @classmethod
    def damage(cls, recorded: Mapping[str, Any]) -> str:
        """What is wrong with the fields that are there; "" if nothing is. Any may be missing."""
        try:
            cls.model_validate(dict(recorded))
        except ValidationError as error:
            wrong = [one for one in error.errors() if one["type"] != "missing"]
            return complaint(wrong[0]) if wrong else ""
        return ""

    def to_json(self) -> dict[str, Any]:
        """The fields that were given, as plain data."""
        return self.model_dump(mode="json", exclude_unset=True)
