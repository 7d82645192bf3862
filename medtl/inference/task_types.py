"""The two types of task, each with the functions in which its inference differs.

A task names its type. Training, the run folder and the commands ask here for what predicts, what
validation measures and what a checkpoint records. :mod:`medtl.evaluation.evaluate` has the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.errors import ConfigError
from medtl.inference import classification, segmentation
from medtl.inference.classification import Classifier
from medtl.inference.segmentation import Segmenter
from medtl.inference.window_size import Tell
from medtl.networks.blocks import Network
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transforms.preprocessor import Preprocessor

AnyPredictor = Segmenter | Classifier


@dataclass(frozen=True, slots=True)
class TaskType:
    """One type of task."""

    name: str
    dense: bool  #: the network gives an output per voxel, else one per image
    selected_by: str  #: what validation measures, per output
    #: network, preprocessor, patch, fabric, checkpoint metadata, tell -> what predicts
    predictor: Callable[
        [Network, Preprocessor, tuple[int, ...], Fabric, CheckpointMetadata, Tell], AnyPredictor
    ]
    #: the predictor with what is fitted on prepared training and validation cases, which hold their
    #: "class" where they have one
    calibrate: Callable[[Any, Iterator[Any], Iterator[Any]], AnyPredictor]
    #: what the checkpoint records of that
    record: Callable[[Any], dict[str, Any]]
    #: the same in a sentence; empty if there is nothing to say
    describe: Callable[[Any], str]
    #: predictor, cached validation cases, cases -> score per output, higher is better
    validate: Callable[[Any, Dataset[Any], Sequence[Case]], Mapping[str, float]]
    #: predictor, cached cases, their number -> probabilities (N, L), one table per output
    probabilities: Callable[[Any, Dataset[Any], int], list[Tensor]]


SEGMENTATION = TaskType(
    name="segmentation",
    dense=True,
    selected_by="Dice",
    predictor=segmentation.build_segmenter,
    calibrate=segmentation.calibrate,
    record=segmentation.record,
    describe=segmentation.describe,
    validate=segmentation.validate,
    probabilities=segmentation.probabilities,
)
CLASSIFICATION = TaskType(
    name="classification",
    dense=False,
    selected_by="soft balanced accuracy",
    predictor=classification.build_classifier,
    calibrate=classification.calibrate,
    record=classification.record,
    describe=classification.describe,
    validate=classification.validate,
    probabilities=classification.probabilities,
)
TASK_TYPES = {task_type.name: task_type for task_type in (SEGMENTATION, CLASSIFICATION)}


def task_type_named(name: str, whose: str) -> TaskType:
    """Raises ConfigError, naming ``whose`` type it is, for one that is not known."""
    if name not in TASK_TYPES:
        known = ", ".join(TASK_TYPES)
        raise ConfigError(f"{whose} is of the unknown kind {name!r}; known: {known}")
    return TASK_TYPES[name]
