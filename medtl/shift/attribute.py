"""Attribute a shift: appearance by family, label prior, and the effect of harmonisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.shift.contract import FeatureExtractor, FeatureRows, Harmoniser, ShiftMetric, View
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
    family_shifts,
)
from medtl.shift.report.removals import removals_of
from medtl.shift.request import PRIMARY, ShiftRequest
from medtl.shift.stats.metric_result import evaluate_metric
from medtl.shift.stats.omnibus import group_units, omnibus
from medtl.shift.stats.permutations import draw_permutations

#: The extractor whose features fall into families, and that of the label prior.
APPEARANCE, LABELS = "appearance", "labels"

#: Harmonisers are fitted on at most this many evenly spaced source images.
MOST_FITTED = 50

#: Harmonisers are tried on at most this many evenly spaced patients per domain.
MOST_PATIENTS = 100

SAME_LABELS = "identical: the same patients in both domains; not tested"

#: The modality of all images if the two domains have different ones.
ANY = Modality("any")


@dataclass(frozen=True, slots=True)
class Attributor:
    """The request, the domains and the images that all parts of an attribution use."""

    request: ShiftRequest
    catalog: Catalog
    reporter: Reporter
    source: DomainCases
    target: DomainCases
    screening: Screening

    def attribution(self, appearance: Pooled | None) -> Attribution:
        """Attribute the shift. ``appearance``: its pooled sample, if already measured."""
        features = self._features(APPEARANCE)
        across = self.request.across
        images = images_of(self.source, self.target, joint=False, across=across)
        images = self.screening.kept(images)
        stored = appearance or pool(
            images, measure_images(images, features, self.request, self.reporter), features
        )
        metric, linear = self._metric(PRIMARY), self._metric("mmd-linear")
        if across:
            return Attribution(family_shifts(stored, self._test(stored), metric, linear))
        label = self._label()
        sample = (label, self._test(label)) if isinstance(label, Pooled) else None
        families = family_shifts(stored, self._test(stored), metric, linear, sample)
        if isinstance(label, str):
            families = (*families, FamilyShift(LABEL, None, None, None, None, label))
        few = some_patients(images, MOST_PATIENTS)
        limited = f"harmonisers were tried on at most {MOST_PATIENTS} patients per domain"
        notes = (limited,) if len(few) < len(images) else ()
        removals = tuple(self._removals(few, features, metric, linear))
        return Attribution(families, removals, notes, self._modalities_differ)

    def _label(self) -> Pooled | str | None:
        """The rows of the labels, the reason why they are not compared, or None without labels."""
        images = images_of(self.source, self.target, joint=True)
        if not all(image.case.target or image.case.class_name for image in images):
            return None
        domains = self.source, self.target
        source, target = ({domain.key(case) for case in domain.cases} for domain in domains)
        if source == target:
            return SAME_LABELS
        features = self._features(LABELS)
        try:
            images = self.screening.kept(images)
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
        fitted = []
        for name in sorted(self.catalog.harmonisers):
            harmoniser: Harmoniser = self.catalog.harmonisers[name].load()()
            fitted.append((harmoniser, harmoniser.fit(self._source_views(images, features))))

        def rows(index: int) -> list[FeatureRows]:
            view = self._view(images[index], features)
            harmonised = (harmoniser.apply(view, numbers) for harmoniser, numbers in fitted)
            return [features.rows(view), *map(features.rows, harmonised)]

        with self.reporter.progress("measuring after harmonising", len(images)) as advance:
            measured = in_threads(rows, range(len(images)), advance, threads=THREADS)
        stored, *others = (gather(images, rows, features) for rows in zip(*measured, strict=True))
        names = (harmoniser.name for harmoniser, _ in fitted)
        samples = dict(zip(names, others, strict=True))
        return removals_of(stored, samples, self._test(stored), metric, linear)

    def _test(self, sample: Pooled) -> MetricTest:
        """The test of the whole comparison on this sample."""
        request = self.request
        if request.across:
            groups = group_units(sample.group_U, sample.rows.patient_U, request.across)
            return lambda metric, scorer: omnibus(
                metric, scorer, groups, request.permutations, request.seed
            )
        comparison = sample.comparison
        permutations = draw_permutations(comparison, request.permutations, request.seed)
        return lambda metric, scorer: evaluate_metric(
            metric, scorer, comparison, permutations, request.seed
        )

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
        return self.catalog.features[name].load()(self.request.settings)  # type: ignore[no-any-return]

    def _metric(self, name: str) -> ShiftMetric:
        return self.catalog.shift_metrics[name].load()()  # type: ignore[no-any-return]
