"""The attribution of a shift: appearance by family, label prior, and what harmonisers leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.shift.contract import (
    FeatureExtractor,
    FeatureRows,
    Fitted,
    Harmoniser,
    ShiftMetric,
    View,
)
from medtl.shift.images.domains import DomainCases, Image, images_of, some_patients
from medtl.shift.images.duplicates import Screening
from medtl.shift.images.extract import THREADS, measure_images, view_of
from medtl.shift.images.pool import Pooled, gather, pool
from medtl.shift.report.attribution import (
    LABEL,
    Attribution,
    FamilyShift,
    MetricTest,
    Removal,
    parts_of,
)
from medtl.shift.report.removals import removals_of
from medtl.shift.request import PRIMARY, ShiftRequest
from medtl.shift.stats.metric_result import evaluate_metric
from medtl.shift.stats.omnibus import group_units, omnibus
from medtl.shift.stats.permutations import draw_permutations

#: FeatureExtractor that fall into families, and the label prior.
APPEARANCE, LABELS = "appearance", "labels"


#: Source images that harmonisers are fitted on, at most; evenly chosen.
MOST_FITTED = 50


#: Patients of a domain on whom harmonisers are tried, at most; evenly chosen.
MOST_PATIENTS = 100


AS_STORED = "as stored"


SAME_LABELS = "identical: the same patients on both sides; not tested"


#: Where the domains' modalities differ, all are brought onto one standard.
ANY = Modality("any")


@dataclass(frozen=True, slots=True)
class Attributor:
    """What all parts of an explanation need."""

    request: ShiftRequest
    catalog: Catalog
    reporter: Reporter
    source: DomainCases
    target: DomainCases
    screening: Screening

    def attribution(self, appearance: Pooled | None) -> Attribution:
        """``appearance``: that pooled sample, where it has been measured already."""
        features = self._features(APPEARANCE)
        across = self.request.across
        images = images_of(self.source, self.target, joint=False, across=across)
        images = self.screening.of(images)
        before = appearance or pool(
            images, measure_images(images, features, self.request, self.reporter), features
        )
        metric, linear = self._metric(PRIMARY), self._metric("mmd-linear")
        if across:
            return Attribution(parts_of(before, self._test(before), metric, linear))
        label = self._label()
        sample = (label, self._test(label)) if isinstance(label, Pooled) else None
        parts = parts_of(before, self._test(before), metric, linear, sample)
        if isinstance(label, str):
            parts = (*parts, FamilyShift(LABEL, None, None, None, None, label))
        few = some_patients(images, MOST_PATIENTS)
        notes: tuple[str, ...] = ()
        if len(few) < len(images):
            notes = (f"harmonisers were tried on {MOST_PATIENTS} patients of a domain at most",)
        removals = tuple(self._removals(few, features, metric, linear))
        return Attribution(parts, removals, notes, self._modalities_differ)

    def _label(self) -> Pooled | str | None:
        """The rows of the labels, or why they are not compared; None where there are none."""
        images = images_of(self.source, self.target, joint=True)
        if not all(image.case.target or image.case.class_name for image in images):
            return None
        ours, theirs = ({side.key(c) for c in side.cases} for side in (self.source, self.target))
        if ours == theirs:
            return SAME_LABELS
        features = self._features(LABELS)
        try:
            images = self.screening.of(images)
            measured = measure_images(images, features, self.request, self.reporter)
            return pool(images, measured, features)
        except DataError as problem:
            return str(problem)

    def _removals(
        self,
        images: Sequence[Image],
        features: FeatureExtractor,
        metric: ShiftMetric,
        linear: ShiftMetric,
    ) -> Iterator[Removal]:
        harmonisers: dict[str, Callable[[View], View]] = {AS_STORED: lambda view: view}
        for name in sorted(self.catalog.harmonisers):
            harmoniser: Harmoniser = self.catalog.harmonisers[name].load()()
            fitted = harmoniser.fit(self._source_views(images, features))
            harmonisers[harmoniser.name] = _applying(harmoniser, fitted)

        def rows(index: int) -> dict[str, FeatureRows]:
            view = self._view(images[index], features)
            return {name: features.rows(apply(view)) for name, apply in harmonisers.items()}

        with self.reporter.progress("measuring after harmonising", len(images)) as advance:
            found = in_threads(rows, range(len(images)), advance, threads=THREADS)
        samples = {
            name: gather(images, [each[name] for each in found], features) for name in harmonisers
        }
        stored = samples.pop(AS_STORED)
        return removals_of(stored, samples, self._test(stored), metric, linear)

    def _test(self, sample: Pooled) -> MetricTest:
        """The comparison that is explained, on this sample."""
        request = self.request
        if request.across:
            groups = group_units(sample.group_U, sample.rows.patient_U, request.across)
            return lambda metric, scorer: omnibus(
                metric, scorer, groups, request.permutations, request.seed
            )
        sides = sample.sides
        drawn = draw_permutations(*sides.units, request.permutations, request.seed)
        return lambda metric, scorer: evaluate_metric(metric, scorer, sides, drawn, request.seed)

    def _source_views(self, images: Sequence[Image], features: FeatureExtractor) -> Iterator[View]:
        chosen = [image for image in images if image.in_source]
        step = -(-len(chosen) // MOST_FITTED)
        return (self._view(image, features) for image in chosen[::step])

    def _view(self, image: Image, features: FeatureExtractor) -> View:
        view = view_of(image, self.request.settings.regions, features)
        return replace(view, modalities=(ANY,)) if self._modalities_differ else view

    @property
    def _modalities_differ(self) -> bool:
        return set(self.source.modalities) != set(self.target.modalities)

    def _features(self, name: str) -> FeatureExtractor:
        made: FeatureExtractor = self.catalog.features[name].load()(self.request.settings)
        return made

    def _metric(self, name: str) -> ShiftMetric:
        made: ShiftMetric = self.catalog.shift_metrics[name].load()()
        return made


def _applying(harmoniser: Harmoniser, fitted: Fitted) -> Callable[[View], View]:
    return lambda view: harmoniser.apply(view, fitted)
