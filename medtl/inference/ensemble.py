"""Several trained stages that predict as one: the mean of their probabilities.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medtl.data.case import Case
from medtl.data.modality import Modality
from medtl.errors import RunError
from medtl.inference.classification import Classifier, classify
from medtl.inference.load import LoadedStage, restore_stage
from medtl.inference.segmentation import Segmenter, decide
from medtl.inference.task_types import AnyPredictor
from medtl.inference.window_size import Tell
from medtl.plugins.catalog import Catalog
from medtl.transfer.weights import read_weights, resolve_weights
from medtl.transforms.preprocessor import Preprocessor

#: A case as each recipe prepares it.
Prepared = Sequence[tuple[Preprocessor, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members of the same task, modalities and regions; each prepares the images in its own way."""

    members: tuple[LoadedStage, ...]

    @property
    def first(self) -> LoadedStage:
        return self.members[0]

    @property
    def regions(self) -> tuple[str, ...]:
        return self.first.predictor.recipe.regions

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return self.first.predictor.recipe.modalities

    @property
    def fabric(self) -> Fabric:
        return self.first.predictor.fabric

    @property
    def synthetic(self) -> bool:
        return all(member.synthetic for member in self.members)

    def prepare(self, case: Case) -> Prepared:
        """The case as each recipe prepares it, once per recipe however many members share it."""
        recipes: list[Preprocessor] = []
        for member in self.members:
            if member.predictor.recipe.plain not in recipes:
                recipes.append(member.predictor.recipe.plain)
        return [(recipe, recipe(case, with_target=False)) for recipe in recipes]

    def probabilities(self, prepared: Iterable[Prepared]) -> Iterator[dict[str, float]]:
        """The probability of each class, of every prepared case in order."""
        found = [member.predictor for member in self.members]
        classifiers = [each for each in found if isinstance(each, Classifier)]
        return classify(classifiers, ([_own(case, c) for c in classifiers] for case in prepared))

    def masks(self, prepared: Prepared) -> NDArray[np.bool_]:
        """One mask per region (LIJK) on the native grid.

        Members run one after the other into one running sum: memory does not grow with them.
        """
        total_LIJK = None
        found = [member.predictor for member in self.members]
        predictors = [each for each in found if isinstance(each, Segmenter)]
        for predictor in predictors:
            image = _own(prepared, predictor)
            if len(predictors) == 1:
                return predictor.masks(image)
            # Double: in single precision sure members say 1 of several regions alike.
            probability_LIJK = predictor.native_logits(image).double().sigmoid_()
            total_LIJK = (
                probability_LIJK if total_LIJK is None else total_LIJK.add_(probability_LIJK)
            )
        assert total_LIJK is not None  # there is a member
        logits_LIJK = torch.logit(total_LIJK.div_(len(predictors)))
        alike = predictors[0]
        return decide(logits_LIJK, nested=alike.nested, exclusive=alike.exclusive)


def _own(prepared: Prepared, predictor: AnyPredictor) -> Mapping[str, Any]:
    return next(image for recipe, image in prepared if recipe == predictor.recipe.plain)


def read_ensemble(
    runs: Sequence[str], catalog: Catalog, fabric: Fabric, tell: Tell = lambda text: None
) -> Ensemble:
    """The last stage of each run (or the stage named), which must agree.

    Raises:
        RunError: they differ in task, modalities, regions or what the data called things.
        WeightsError: a run without a finished stage.
    """
    members = tuple(
        restore_stage(read_weights(resolve_weights(run)), catalog, fabric, tell) for run in runs
    )
    for run, member in zip(runs[1:], members[1:], strict=True):
        for what, a, b in (
            ("task", members[0].task, member.task),
            ("modalities", _modalities(members[0]), _modalities(member)),
            ("regions", _regions(members[0]), _regions(member)),
            ("labels", _labels(members[0]), _labels(member)),
        ):
            if a != b:
                raise RunError(f"{runs[0]} and {run} differ in {what}: {a} and {b}")
    return Ensemble(members)


def _modalities(member: LoadedStage) -> str:
    return ", ".join(sorted(member.predictor.recipe.modalities))


def _regions(member: LoadedStage) -> str:
    return ", ".join(member.predictor.recipe.regions)


def _labels(member: LoadedStage) -> str:
    return str((member.names or {}).get("regions", ""))
