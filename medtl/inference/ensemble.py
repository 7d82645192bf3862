"""Several trained stages that predict as one: the mean of their probabilities.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from medtl.data.case import Case
from medtl.data.label_scheme import LabelScheme
from medtl.data.modality import Modality
from medtl.errors import DataError, RunError
from medtl.inference.classification import classify
from medtl.inference.label_map import LabelMap, Watch, paint
from medtl.inference.load import LoadedStage, restore_stage
from medtl.inference.probability import logits_of, probabilities
from medtl.inference.segmentation import Segmenter
from medtl.inference.window_size import Tell
from medtl.plugins.catalog import Catalog
from medtl.transfer.weights import read_weights, resolve_weights
from medtl.transforms.preprocess import Placement
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
    def modalities(self) -> tuple[Modality, ...]:
        """Of the first member, in its order; the others have the same."""
        return self.members[0].predictor.preprocessor.modalities

    @property
    def takes_missing(self) -> bool:
        """Whether all members were trained for cases that lack modalities."""
        presets = [predictor.preprocessor.preset for predictor in self.predictors]
        return all(preset.augmentation.modality_dropout > 0 for preset in presets)

    def present(self, case: Case, warn: Tell = ignore) -> list[Modality]:
        """The modalities that a case has, in order; ``warn`` is called with those that it lacks.

        Raises:
            DataError: it lacks all, or some for which the members were not trained.
        """
        found = [name for name in self.modalities if name in case.images]
        lacking = ", ".join(name for name in self.modalities if name not in found)
        if lacking and not found:
            raise DataError(f"{case.id}: it has no {lacking} image")
        if lacking and not self.takes_missing:
            raise DataError(
                f"{case.id}: it has no {lacking} image, and this run was not trained for that "
                "(--modality-dropout)"
            )
        if lacking:
            warn(f"{case.id}: predicted without {lacking}")
        return found

    @property
    def predictors(self) -> list[Any]:
        """Segmenters or classifiers, as the task is."""
        return [member.predictor for member in self.members]

    def prepare(self, case: Case) -> Prepared:
        """Preprocess the case for each member; equal preprocessors run once."""
        plain = [predictor.preprocessor.plain for predictor in self.predictors]
        sources = [plain.index(preprocessor) for preprocessor in plain]
        prepared = {n: plain[n].without_target(case) for n in dict.fromkeys(sources)}
        return [prepared[n] for n in sources]

    def probabilities(self, prepared: Iterable[Prepared]) -> Iterator[dict[str, float]]:
        """The probability of each class, of every prepared case in order."""
        return classify(self.predictors, prepared)

    def placement(self, prepared: Prepared) -> Placement:
        """Where the logits lie that :meth:`label_map` paints: of several members, everywhere."""
        own: Placement = prepared[0]["placement"]
        if len(self.members) == 1:
            return own
        return Placement(own.shape, (0, 0, 0), own.shape, (0, 1, 2), (False, False, False))

    def label_map(
        self, prepared: Prepared, scheme: LabelScheme, watch: Watch | None = None
    ) -> LabelMap:
        """See :meth:`medtl.inference.segmentation.Segmenter.label_map`.

        Members run one after the other into a running sum, so that memory does not grow with them.
        """
        predictors: list[Segmenter] = self.predictors
        if len(predictors) == 1:
            return predictors[0].label_map(prepared[0], scheme, watch)
        softmax = predictors[0].softmax
        total_LIJK = probabilities(predictors[0].native_logits(prepared[0]), softmax=softmax)
        for predictor, image in zip(predictors[1:], prepared[1:], strict=True):
            total_LIJK += probabilities(predictor.native_logits(image), softmax=softmax)
        logits_LIJK = logits_of(total_LIJK.div_(len(predictors)), softmax=softmax)
        placement = self.placement(prepared)
        planes, slab_of = placement.shape[0], predictors[0].paint_slab
        return paint([logits_LIJK], planes, 0, placement, scheme, slab_of, watch)


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
