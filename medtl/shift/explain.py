"""The attribution of a shift: appearance by family, label prior, and what harmonisers leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medtl.catalog import Catalog
from medtl.console import Reporter
from medtl.modality import Modality
from medtl.shift.attribution import Attribution, Removal, parts_of, removal
from medtl.shift.contract import Features, Harmoniser, Measured, ShiftMetric, View
from medtl.shift.design import Arrangements, arrange
from medtl.shift.extraction import in_parallel, measure_images, view_of
from medtl.shift.measure import Outcome, Sides, measure
from medtl.shift.pooling import Pooled, pool
from medtl.shift.request import PRIMARY, Request
from medtl.shift.sides import Image, Side, images_of

#: Features that fall into families, and the label prior.
APPEARANCE, LABELS = "appearance", "labels"
#: Source images that harmonisers are fitted on, at most; evenly chosen.
MOST_FITTED = 50
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

    def attribution(self, appearance: Pooled | None) -> Attribution:
        """``appearance``: that pooled sample, where it has been measured already."""
        features = self._features(APPEARANCE)
        images = images_of(self.source, self.target, joint=False)
        before = appearance or pool(
            images, measure_images(images, features, self.request, self.reporter), features
        )
        metric, linear = self._metric(PRIMARY), self._metric("mmd-linear")
        samples = [before, *self._labels()]
        parts = [
            part
            for sample in samples
            for part in parts_of(
                sample, _sides(sample), self._drawn(sample), metric, linear, self.request.seed
            )
        ]
        return Attribution(tuple(parts), tuple(self._removals(images, features, before, metric)))

    def _labels(self) -> list[Pooled]:
        """The label prior, where other patients with labels lie on the other side."""
        images = images_of(self.source, self.target, joint=True)
        apart = not any(
            self.source.key(c) in map(self.target.key, self.target.cases) for c in self.source.cases
        )
        known = all(image.case.target or image.case.class_name for image in images)
        if not (apart and known):
            return []
        features = self._features(LABELS)
        measured = measure_images(images, features, self.request, self.reporter)
        return [pool(images, measured, features)]

    def _removals(
        self, images: Sequence[Image], features: Features, before: Pooled, metric: ShiftMetric
    ) -> Iterator[Removal]:
        fitted = {}
        for name in sorted(self.catalog.harmonisers):
            harmoniser: Harmoniser = self.catalog.harmonisers[name].load()()
            fitted[harmoniser.name] = (
                harmoniser,
                harmoniser.fit(self._source_views(images, features)),
            )

        def rows(index: int) -> dict[str, Measured]:
            view = self._view(images[index], features)
            return {
                name: features.rows(harmoniser.apply(view, state))
                for name, (harmoniser, state) in fitted.items()
            }

        label = "measuring after harmonising"
        measured = in_parallel(rows, len(images), label, self.reporter)
        first = self._outcome(before, metric)
        for name in fitted:
            after = pool(images, [found[name] for found in measured], features)
            yield removal(name, first, self._outcome(after, metric))

    def _outcome(self, sample: Pooled, metric: ShiftMetric) -> Outcome:
        scorer = metric.prepare(sample.rows)
        return measure(metric, scorer, _sides(sample), self._drawn(sample), self.request.seed)

    def _source_views(self, images: Sequence[Image], features: Features) -> Iterator[View]:
        chosen = [image for image in images if image.in_source]
        step = -(-len(chosen) // MOST_FITTED)
        return (self._view(image, features) for image in chosen[::step])

    def _view(self, image: Image, features: Features) -> View:
        view = view_of(image, self.request.settings.regions, features)
        same = set(self.source.modalities) == set(self.target.modalities)
        return view if same else replace(view, modalities=(ANY,))

    def _drawn(self, sample: Pooled) -> Arrangements:
        return arrange(
            sample.source_U,
            sample.target_U,
            sample.rows.patient_U,
            self.request.draws,
            self.request.seed,
        )

    def _features(self, name: str) -> Features:
        made: Features = self.catalog.features[name].load()(self.request.settings)
        return made

    def _metric(self, name: str) -> ShiftMetric:
        made: ShiftMetric = self.catalog.shift_metrics[name].load()()
        return made


def _sides(sample: Pooled) -> Sides:
    return Sides(sample.source_U, sample.target_U, sample.rows.patient_U)
