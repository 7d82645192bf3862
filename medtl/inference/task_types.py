"""What tells one kind of task from another, as plain data and functions.

A task says which kind it is of; the one training loop, the run folder and the commands ask here for
all that differs: what a sample's target is, what predicts, which score selects the weights, and
which scores a run reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case, Cohort
from medtl.errors import ConfigError
from medtl.evaluation.class_metrics import (
    calibrated,
    confusion,
    hits_by_patient,
    per_patient,
    summarise_classes,
)
from medtl.evaluation.classification import score_classes
from medtl.evaluation.controls import Paired
from medtl.evaluation.metrics import dice_by_patient, summarise, write_metrics_csv
from medtl.evaluation.segmentation import score_cases
from medtl.inference.classification import (
    Classifier,
    calibrated_on,
    class_probabilities,
    soft_sensitivity,
    write_predictions_csv,
)
from medtl.inference.segmentation import (
    Segmenter,
    least_component_ml,
    validation_dice,
    voxel_probabilities,
)
from medtl.inference.temperature import Temperature
from medtl.networks.blocks import Network
from medtl.training.samples.augmented import Patches, Views
from medtl.transforms.preprocessor import Preprocessor

AnyPredictor = Segmenter | Classifier


Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TaskType:
    """One kind of task. ``recorded`` is what a checkpoint's metadata hold (a task's attributes)."""

    name: str
    dense: bool  #: the network gives an output per voxel, else one per image
    selected_by: str  #: what validation measures, per output
    #: cached cases, cases, recipe, patch, key -> augmented samples
    samples: Callable[
        [Dataset[Any], Sequence[Case], Preprocessor, tuple[int, ...], str],
        Dataset[dict[str, Tensor]],
    ]
    #: network, recipe, patch, fabric, recorded -> what predicts
    predictor: Callable[
        [Network, Preprocessor, tuple[int, ...], Fabric, Mapping[str, Any]], AnyPredictor
    ]
    #: the predictor with what is chosen on prepared training and validation cases, which hold their
    #: "class" where they have one
    settled: Callable[[Any, Iterator[Any], Iterator[Any]], AnyPredictor]
    #: what the checkpoint keeps of that
    recorded: Callable[[Any], dict[str, Any]]
    #: and what is said of it; empty: nothing
    told: Callable[[Any], str]
    #: predictor, cached validation cases, cases -> score per output, higher is better
    validate: Callable[[Any, Dataset[Any], Sequence[Case]], Mapping[str, float]]
    #: predictor, cached cases, how many -> probabilities (N, L), one table per output
    beliefs: Callable[[Any, Dataset[Any], int], list[Tensor]]
    #: refuses cases whose truth a model cannot be scored on, by the names of its outputs
    check: Callable[[Cohort, tuple[str, ...]], None]
    #: predictor, cases, reporter, what is being done -> rows
    score: Callable[..., list[dict[str, Any]]]
    summarise: Callable[[Rows], dict[str, dict[str, Any]]]
    #: the metric by which stages are compared within patients, higher is better, and rows -> output
    #: -> patient -> its values
    compared_by: str
    paired: Callable[[Rows], Paired]
    #: facts beside the scores that a stage's predictor and rows tell, by name
    details: Callable[[Any, Rows], dict[str, Any]]
    #: folder, rows of every stage (with "stage") -> a file in it
    write_rows: Callable[[Path, Rows], None]


def _patches(
    cached: Dataset[Any],
    cases: Sequence[Case],
    recipe: Preprocessor,
    patch: tuple[int, ...],
    key: str,
) -> Patches:
    return Patches(cached, len(cases), recipe, patch, key)


def _segmenter(
    network: Network,
    recipe: Preprocessor,
    patch: tuple[int, ...],
    fabric: Fabric,
    recorded: Mapping[str, Any],
) -> Segmenter:
    return Segmenter(
        network,
        recipe,
        patch,
        fabric,
        recorded["nested"],
        recorded["min_component_ml"],
        exclusive=recorded.get("exclusive", False),
    )


def _without_specks(
    predictor: Segmenter, train: Iterator[Any], validation: Iterator[Any]
) -> Segmenter:
    return replace(predictor, min_component_ml=least_component_ml(predictor, train, validation))


def _dice(predictor: Segmenter, cached: Dataset[Any], cases: Sequence[Case]) -> Mapping[str, float]:
    return validation_dice(predictor, cached, len(cases))


def _classifier(
    network: Network,
    recipe: Preprocessor,
    patch: tuple[int, ...],
    fabric: Fabric,
    recorded: Mapping[str, Any],
) -> Classifier:
    cases = int(recorded.get("temperature_fitted_on", 0))
    temperature = Temperature(float(recorded.get("temperature", 1.0)), cases)
    return Classifier(network, recipe, patch, fabric, temperature)


def _of_temperature(classifier: Classifier) -> dict[str, Any]:
    temperature = classifier.temperature
    return {"temperature": temperature.value, "temperature_fitted_on": temperature.cases}


def _class_details(classifier: Classifier, rows: Rows) -> dict[str, Any]:
    patients = per_patient(rows)
    return {
        "confusion": confusion(rows),
        "calibration": calibrated(rows, classifier.temperature),
        **({"by_patient": patients.how} if patients else {}),
    }


SEGMENTATION = TaskType(
    name="segmentation",
    dense=True,
    selected_by="Dice",
    samples=_patches,
    predictor=_segmenter,
    settled=_without_specks,
    recorded=lambda predictor: {"min_component_ml": predictor.min_component_ml},
    validate=_dice,
    beliefs=voxel_probabilities,
    check=Cohort.check_regions,
    score=score_cases,
    summarise=summarise,
    compared_by="dice",
    paired=dice_by_patient,
    told=lambda predictor: "",
    details=lambda predictor, rows: {},
    write_rows=lambda folder, rows: write_metrics_csv(folder / "metrics.csv", rows),
)


CLASSIFICATION = TaskType(
    name="classification",
    dense=False,
    selected_by="soft balanced accuracy",
    samples=Views,
    predictor=_classifier,
    settled=lambda classifier, train, validation: calibrated_on(classifier, validation),
    recorded=_of_temperature,
    told=lambda classifier: str(classifier.temperature),
    validate=soft_sensitivity,
    beliefs=class_probabilities,
    check=Cohort.check_classes,
    score=score_classes,
    summarise=summarise_classes,
    compared_by="accuracy",
    paired=hits_by_patient,
    details=_class_details,
    write_rows=lambda folder, rows: write_predictions_csv(folder / "predictions.csv", rows),
)


TASK_TYPES = {kind.name: kind for kind in (SEGMENTATION, CLASSIFICATION)}


def task_type_named(name: str, whose: str) -> TaskType:
    """Raises ConfigError, naming ``whose`` kind it is, for one that is not known."""
    if name not in TASK_TYPES:
        raise ConfigError(
            f"{whose} is of the unknown kind {name!r}; known: {', '.join(TASK_TYPES)}"
        )
    return TASK_TYPES[name]
