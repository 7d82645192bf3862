"""Several trained stages that predict as one: the mean of their probabilities.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from medtl.data.case import Case
from medtl.data.label_scheme import LabelScheme, Settled
from medtl.errors import RunError
from medtl.inference.classification import classify
from medtl.inference.load import LoadedStage, restore_stage
from medtl.inference.probability import logits_of, probabilities
from medtl.inference.segmentation import Segmenter
from medtl.inference.window_size import Tell
from medtl.plugins.catalog import Catalog
from medtl.transfer.weights import read_weights, resolve_weights
from medtl.transforms.preprocessor import ignore

#: A case, preprocessed for each member.
Prepared = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members of the same task, modalities and regions; each prepares the images in its own way."""

    members: tuple[LoadedStage, ...]

    @property
    def synthetic(self) -> bool:
        return all(member.metadata.synthetic for member in self.members)

    @property
    def predictors(self) -> list[Any]:
        """Segmenters or classifiers, as the task is."""
        return [member.predictor for member in self.members]

    def prepare(self, case: Case) -> Prepared:
        """Preprocess the case for each member; equal preprocessors run once."""
        plain = [predictor.preprocessor.plain for predictor in self.predictors]
        sources = [plain.index(preprocessor) for preprocessor in plain]
        prepared = {n: plain[n](case, with_target=False) for n in dict.fromkeys(sources)}
        return [prepared[n] for n in sources]

    def probabilities(self, prepared: Iterable[Prepared]) -> Iterator[dict[str, float]]:
        """The probability of each class, of every prepared case in order."""
        return classify(self.predictors, prepared)

    def masks(self, prepared: Prepared, scheme: LabelScheme) -> Settled:
        """One mask per region (LIJK) on the native grid, as a label map of the scheme holds them.

        Members run one after the other into a running sum, so that memory does not grow with them.
        """
        predictors: list[Segmenter] = self.predictors
        if len(predictors) == 1:
            return predictors[0].masks(prepared[0], scheme)
        softmax = predictors[0].softmax
        total_LIJK = probabilities(predictors[0].native_logits(prepared[0]), softmax=softmax)
        for predictor, image in zip(predictors[1:], prepared[1:], strict=True):
            total_LIJK += probabilities(predictor.native_logits(image), softmax=softmax)
        logits_LIJK = logits_of(total_LIJK.div_(len(predictors)), softmax=softmax)
        return predictors[0].settle(logits_LIJK, scheme)


def read_ensemble(
    runs: Sequence[str],
    catalog: Catalog,
    fabric: Fabric,
    tell: Tell = lambda text: None,
    warn: Tell = ignore,
) -> Ensemble:
    """The last stage of each run, or the named one.

    Raises:
        RunError: they differ in task, modalities, regions or names of labels.
        WeightsError: a run without a finished stage.
    """
    members = tuple(
        restore_stage(read_weights(resolve_weights(run)), catalog, fabric, tell, warn)
        for run in runs
    )
    expected = _shared_facts(members[0])
    for run, member in zip(runs[1:], members[1:], strict=True):
        for what, value in _shared_facts(member).items():
            if value != expected[what]:
                raise RunError(
                    f"{runs[0]} and {run} differ in {what}: {expected[what]} and {value}"
                )
    return Ensemble(members)


def _shared_facts(member: LoadedStage) -> dict[str, str]:
    """The facts that must be equal for all members of an ensemble."""
    preprocessor = member.predictor.preprocessor
    return {
        "task": member.metadata.task,
        "modalities": ", ".join(sorted(preprocessor.modalities)),
        "regions": ", ".join(preprocessor.regions),
        "probabilities": "softmax" if member.metadata.softmax else "one per region",
        "labels": str((member.metadata.names or {}).get("regions", "")),
    }
