"""The attribution of a shift: appearance by family, label prior, and what harmonisers leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from medtl.catalog import Catalog
from medtl.console import Reporter
from medtl.errors import DataError
from medtl.modality import Modality
from medtl.shift.across import group_units, omnibus
from medtl.shift.attribution import Attribution, Part, Removal, Test, parts_of, removal
from medtl.shift.contract import Features, Fitted, Harmoniser, Measured, ShiftMetric, View
from medtl.shift.design import arrange
from medtl.shift.duplicates import Sorted
from medtl.shift.extraction import in_parallel, measure_images, view_of
from medtl.shift.measure import Outcome, Sides, measure
from medtl.shift.pooling import Pooled, pool
from medtl.shift.request import PRIMARY, Request
from medtl.shift.sides import Image, Side, images_of, some_patients

#: Features that fall into families, and the label prior.
APPEARANCE, LABELS = "appearance", "labels"
#: Source images that harmonisers are fitted on, at most; evenly chosen.
MOST_FITTED = 50
#: Patients of a domain on whom harmonisers are tried, at most; evenly chosen.
MOST_PATIENTS = 100
AS_STORED = "as stored"
#: Where the domains' modalities differ, all are brought onto one standard.
ANY = Modality("any")


@dataclass(frozen=True, slots=True)
class Explainer:
    """What all parts of an explanation need."""

    request: Request
    catalog: Catalog
    reporter: Reporter
    source: Side
    target: Side
    sorted_out: Sorted

    def attribution(self, appearance: Pooled | None) -> Attribution:
        """``appearance``: that pooled sample, where it has been measured already."""
        features = self._features(APPEARANCE)
        across = self.request.across
        images = images_of(self.source, self.target, joint=False, across=across)
        images = self.sorted_out.of(images)
        before = appearance or pool(
            images, measure_images(images, features, self.request, self.reporter), features
        )
        metric, linear = self._metric(PRIMARY), self._metric("mmd-linear")
        parts = parts_of(before, self._test(before), metric, linear)
        if across:
            return Attribution(parts)
        few = some_patients(images, MOST_PATIENTS)
        notes: tuple[str, ...] = ()
        if len(few) < len(images):
            notes = (f"harmonisers were tried on {MOST_PATIENTS} patients of a domain at most",)
        removals = tuple(self._removals(few, features, metric))
        return Attribution(
            (*parts, *self._label_part(metric)), removals, notes, self._modalities_differ
        )

    def _label_part(self, metric: ShiftMetric) -> Iterator[Part]:
        """The label prior, where other patients with labels lie on the other side."""
        images = self.sorted_out.of(images_of(self.source, self.target, joint=True))
        apart = not any(image.in_source and image.in_target for image in images)
        known = all(image.case.target or image.case.class_name for image in images)
        if not (apart and known and self.source.cases != self.target.cases):
            return
        features = self._features(LABELS)
        try:
            measured = measure_images(images, features, self.request, self.reporter)
            sample = pool(images, measured, features)
        except DataError as problem:
            yield Part("label", None, None, None, None, str(problem))
            return
        outcome = self._outcome(sample, metric)
        yield Part("label", outcome.value, outcome.p, outcome.effect, None)

    def _removals(
        self, images: Sequence[Image], features: Features, metric: ShiftMetric
    ) -> Iterator[Removal]:
        harmonisers: dict[str, Callable[[View], View]] = {AS_STORED: lambda view: view}
        for name in sorted(self.catalog.harmonisers):
            harmoniser: Harmoniser = self.catalog.harmonisers[name].load()()
            fitted = harmoniser.fit(self._source_views(images, features))
            harmonisers[harmoniser.name] = _applying(harmoniser, fitted)

        def rows(index: int) -> dict[str, Measured]:
            view = self._view(images[index], features)
            return {name: features.rows(apply(view)) for name, apply in harmonisers.items()}

        found = in_parallel(rows, len(images), "measuring after harmonising", self.reporter)
        outcomes = {
            name: self._outcome(pool(images, [each[name] for each in found], features), metric)
            for name in harmonisers
        }
        before = outcomes.pop(AS_STORED)
        return (removal(name, before, outcome) for name, outcome in outcomes.items())

    def _outcome(self, sample: Pooled, metric: ShiftMetric) -> Outcome:
        return self._test(sample)(metric, metric.prepare(sample.rows))

    def _test(self, sample: Pooled) -> Test:
        """The comparison that is explained, on this sample."""
        request, patient_U = self.request, sample.rows.patient_U
        if request.across:
            groups = group_units(sample.group_U, patient_U, request.across)
            return lambda metric, scorer: omnibus(
                metric, scorer, groups, request.draws, request.seed
            )
        sides = Sides(sample.source_U, sample.target_U, patient_U)
        drawn = arrange(sides.source_U, sides.target_U, patient_U, request.draws, request.seed)
        return lambda metric, scorer: measure(metric, scorer, sides, drawn, request.seed)

    def _source_views(self, images: Sequence[Image], features: Features) -> Iterator[View]:
        chosen = [image for image in images if image.in_source]
        step = -(-len(chosen) // MOST_FITTED)
        return (self._view(image, features) for image in chosen[::step])

    def _view(self, image: Image, features: Features) -> View:
        view = view_of(image, self.request.settings.regions, features)
        return replace(view, modalities=(ANY,)) if self._modalities_differ else view

    @property
    def _modalities_differ(self) -> bool:
        return set(self.source.modalities) != set(self.target.modalities)

    def _features(self, name: str) -> Features:
        made: Features = self.catalog.features[name].load()(self.request.settings)
        return made

    def _metric(self, name: str) -> ShiftMetric:
        made: ShiftMetric = self.catalog.shift_metrics[name].load()()
        return made


def _applying(harmoniser: Harmoniser, fitted: Fitted) -> Callable[[View], View]:
    return lambda view: harmoniser.apply(view, fitted)
