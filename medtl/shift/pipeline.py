"""``medtl shift`` from a request to a Shift: read, measure features, pool, compare, test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from medtl.case import Cohort
from medtl.catalog import Catalog
from medtl.console import Reporter
from medtl.domain import parse_domain
from medtl.errors import ConfigError, DataError
from medtl.modality import Modality
from medtl.planning import read_cohort
from medtl.shift.contract import Features, Measured, Settings, ShiftMetric
from medtl.shift.design import arrange
from medtl.shift.measure import Outcome, Sides, adjust, measure
from medtl.shift.pooling import Pooled, pool, thinned
from medtl.shift.reading import read_view
from medtl.shift.result import Shift, ShiftRow, verdict_of
from medtl.shift.sides import Image, Side, images_of, pairs_of, read_side
from medtl.task import Task, bound

PRIMARY = "mmd"
METRICS = ("mmd", "energy", "frechet", "coral", "sliced-wasserstein", "ks", "domain-auroc")
FEATURES = ("appearance",)
DRAWS = 999
#: Rows of all images together, unless the user says otherwise: kernels compare each with each.
MOST_ROWS = 20_000
FEWEST_ROWS = 10
THREADS = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; None: the task's or this module's default."""

    task: str
    data: Path | None = None
    src: str | None = None
    dst: str | None = None
    features: tuple[str, ...] = FEATURES
    metrics: tuple[str, ...] = METRICS
    settings: Settings = field(default_factory=Settings)
    draws: int = DRAWS
    rows_per_image: int | None = None
    labels: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A named source and target among the units of a pooled sample."""

    source: str
    target: str
    sides: Sides


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of some features on one comparison."""

    comparison: Comparison
    features: str
    metric: str
    outcome: Outcome


def measure_shift(request: Request, catalog: Catalog, reporter: Reporter) -> Shift:
    """Measure the shift between two domains, test it, and say what it means.

    Raises ConfigError and DataError for whatever is wrong with the request or the data.
    """
    if request.draws < 1:
        raise ConfigError(f"--draws {request.draws}: at least 1 (999 is usual)")
    features = [catalog.features[name].load()(request.settings) for name in request.features]
    metrics = [catalog.shift_metrics[name].load()() for name in request.metrics]
    metrics.sort(key=lambda metric: metric.name != PRIMARY)
    reader = _Reader(request, catalog, reporter)
    source, target = reader.sides()
    found: list[Finding] = []
    notes: list[str] = []
    for each in features:
        images = images_of(source, target, joint=each.joint)
        measured = _measure_all(images, each, request, reader.regions(), reporter)
        pooled = pool(images, measured, each)
        notes += pooled.notes
        found += _compare(
            pooled, each, metrics, _comparisons(pooled, source, target, each), request
        )
    found = _corrected(found, request.draws)
    synthetic = source.cohort.synthetic or target.cohort.synthetic
    rows = tuple(_row(finding, synthetic) for finding in found)
    enough = found[0].comparison.sides.design.enough() if rows[0].p_floor else ""
    return Shift(rows, verdict_of(rows[0], enough), tuple(dict.fromkeys(notes)))


class _Reader:
    """Cohorts by task and folder, each read once."""

    def __init__(self, request: Request, catalog: Catalog, reporter: Reporter) -> None:
        self.request, self.catalog, self.reporter = request, catalog, reporter
        self.cohorts: dict[tuple[str, Path | None], Cohort] = {}
        self.tasks: dict[str, Task] = {}

    def sides(self) -> tuple[Side, Side]:
        defaults = self._task(self.request.task, self.request.data).defaults
        chosen = (self.request.src or defaults.src, self.request.dst or defaults.dst)
        source, target = (read_side(parse_domain(text), self.read) for text in chosen)
        return source, target

    def regions(self) -> tuple[str, ...]:
        return next(iter(self.tasks.values())).regions

    def read(self, task: str | None, data: Path | None) -> Cohort:
        key = (task or self.request.task, data or self.request.data)
        if key not in self.cohorts:
            self.cohorts[key] = read_cohort(
                self._task(*key), key[1], self.reporter,
                labels=self.request.labels, need_target=False,
            )  # fmt: skip
        return self.cohorts[key]

    def _task(self, name: str, data: Path | None) -> Task:
        task = bound(self.catalog.tasks[name].load()(), data, self.request.labels)
        self.tasks.setdefault(name, task)
        return task


def _measure_all(
    images: Sequence[Image],
    features: Features,
    request: Request,
    regions: tuple[str, ...],
    reporter: Reporter,
) -> list[Measured]:
    """Rows of every image, in the order of ``images``."""
    most = request.rows_per_image or max(FEWEST_ROWS, MOST_ROWS // len(images))

    def rows(index: int) -> Measured:
        image = images[index]
        if features.target and image.case.target is None and not image.case.class_name:
            raise DataError(f"features {features.name}: case {image.case.id} is not labelled")
        view = read_view(image.case, image.modalities, regions, with_target=features.target)
        return thinned(features.rows(view), most, request.seed + index)

    found = []
    with (
        reporter.progress(f"measuring {features.name}", len(images)) as advance,
        ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads,
    ):
        try:
            for done, measured in enumerate(threads.map(rows, range(len(images)))):
                found.append(measured)
                advance(done + 1)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return found


def _comparisons(
    pooled: Pooled, source: Side, target: Side, features: Features
) -> list[Comparison]:
    """The domains as wholes first, then each cell of the grid."""
    patient_U = pooled.rows.patient_U
    made = [
        Comparison(source.name, target.name, Sides(pooled.source_U, pooled.target_U, patient_U))
    ]
    for a, b in [] if features.joint else pairs_of(source, target):
        sides = Sides(
            pooled.source_U & pooled.unit_mask(a), pooled.target_U & pooled.unit_mask(b), patient_U
        )
        made.append(Comparison(_cell(source, a, b), _cell(target, b, a), sides))
    return made


def _cell(side: Side, modality: Modality, other: Modality) -> str:
    """A cell's end: the modality; with what else narrows the domain where both ends show one."""
    return modality if modality != other else str(replace(side.domain, modalities=(modality,)))


def _compare(
    pooled: Pooled,
    features: Features,
    metrics: Sequence[ShiftMetric],
    comparisons: Sequence[Comparison],
    request: Request,
) -> list[Finding]:
    found = []
    whole = comparisons[0].sides
    arrangements = arrange(
        whole.source_U, whole.target_U, whole.patient_U, request.draws, request.seed
    )
    for metric in metrics:
        scorer = None
        for comparison in comparisons:
            if comparison.sides.identical:
                outcome = Outcome(0.0, note="identical: the same images on both sides; not tested")
            else:
                scorer = scorer or metric.prepare(pooled.rows)
                outcome = measure(metric, scorer, comparison.sides, arrangements, request.seed)
            found.append(Finding(comparison, features.name, metric.name, outcome))
    return found


def _corrected(found: Sequence[Finding], draws: int) -> list[Finding]:
    """The first carries the verdict as it stands; all others are corrected together."""
    primary, *others = found
    exhaustive = primary.comparison.sides.design.arrangements <= draws
    adjusted = [
        replace(primary.outcome, p_adjusted=primary.outcome.p),
        *adjust([finding.outcome for finding in others], exhaustive),
    ]
    return [
        replace(finding, outcome=outcome) for finding, outcome in zip(found, adjusted, strict=True)
    ]


def _row(finding: Finding, synthetic: bool) -> ShiftRow:
    comparison, outcome = finding.comparison, finding.outcome
    return ShiftRow(
        comparison.source,
        comparison.target,
        finding.metric,
        finding.features,
        outcome.value,
        outcome.null_low,
        outcome.null_high,
        outcome.low,
        outcome.high,
        outcome.p,
        outcome.p_floor,
        outcome.p_adjusted,
        outcome.effect,
        comparison.sides.design.name,
        comparison.sides.n_source,
        comparison.sides.n_target,
        synthetic,
        outcome.note,
    )
