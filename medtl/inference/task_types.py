"""The two types of task, each with the class that predicts and what validation measures.

:class:`Segmenter` and :class:`Classifier` have the same methods for training: ``from_metadata``,
``calibrate``, ``record``, ``describe``, ``validate``, ``case_probabilities``.
:mod:`medtl.evaluation.evaluate` has the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from medtl.errors import ConfigError
from medtl.inference.classification import Classifier
from medtl.inference.segmentation import Segmenter

AnyPredictor = Segmenter | Classifier


@dataclass(frozen=True, slots=True)
class TaskType:
    """One type of task."""

    name: str
    dense: bool  #: the network gives an output per voxel, else one per image
    selected_by: str  #: what validation measures, per output
    predictor: type[Segmenter] | type[Classifier]


SEGMENTATION = TaskType("segmentation", True, "Dice", Segmenter)
CLASSIFICATION = TaskType("classification", False, "soft balanced accuracy", Classifier)
TASK_TYPES = {task_type.name: task_type for task_type in (SEGMENTATION, CLASSIFICATION)}


def task_type_named(name: str, whose: str) -> TaskType:
    """The type of task of this name.

    Args:
        whose: the task or file that names it, for the message.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in TASK_TYPES:
        known = ", ".join(TASK_TYPES)
        raise ConfigError(f"{whose} is of the unknown kind {name!r}; known: {known}")
    return TASK_TYPES[name]
