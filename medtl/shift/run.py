"""``medtl shift``: read the images, measure features, compare the domains, test, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medtl.errors import ConfigError, DataError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.shift.attribute import APPEARANCE, Attributor
from medtl.shift.contract import FeatureExtractor, ShiftMetric
from medtl.shift.images.cohorts import Cohorts
from medtl.shift.images.domains import DomainCases, domain_names, grid_cells, images_of
from medtl.shift.images.duplicates import screen_images
from medtl.shift.images.extract import measure_images
from medtl.shift.images.pool import Pooled, pool
from medtl.shift.metrics.distributions import FeatureShift, ks_features
from medtl.shift.report.advice import advise
from medtl.shift.report.power import ShiftPower
from medtl.shift.report.result import Shift
from medtl.shift.report.row import EACH, ShiftRow, verdict_of
from medtl.shift.request import PRIMARY, ShiftRequest
from medtl.shift.stats.metric_result import MetricResult, adjust, evaluate_metric
from medtl.shift.stats.omnibus import group_units, omnibus, pair, pairs
from medtl.shift.stats.permutations import ALPHA, Comparison, draw_permutations
from medtl.shift.stats.power import pilot_of

#: Extractors with more features than this get no table of single features.
MOST_LISTED = 100

#: Fields of a MetricResult that a ShiftRow takes over, in its order.
NUMBERS = (
    "value", "null_low", "null_high", "low", "high", "p", "p_floor", "p_adjusted", "effect",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one metric on some features of one source and target."""

    source: str
    target: str
    features: str
    metric: str
    design: str
    n_source: int
    n_target: int
    result: MetricResult

    def row(self, synthetic: bool) -> ShiftRow:
        values: list[Any] = [self.source, self.target, self.metric, self.features]
        values += [getattr(self.result, name) for name in NUMBERS]
        values += [self.design, self.n_source, self.n_target, synthetic, self.result.note]
        return ShiftRow(*values)


def measure_shift(request: ShiftRequest, catalog: Catalog, reporter: Reporter) -> Shift:
    """Measure and test the shift between two domains, or across sites, and explain the result.

    Raises:
        ConfigError: a setting is unknown or cannot be used.
        DataError: images are missing, damaged or cannot be compared.
    """
    metrics = _metrics(request, catalog)
    names = dict.fromkeys(map(catalog.features.full_name, request.features))
    makers = [catalog.features[name].load() for name in names]
    cohorts = Cohorts(request, catalog, reporter)
    source, target = cohorts.domains()
    request = replace(request, settings=replace(request.settings, regions=cohorts.regions()))
    images = images_of(source, target, joint=False, across=request.across)
    screening = screen_images(images, reporter, request.across)
    findings: list[Finding] = []
    samples: dict[str, Pooled] = {}
    for features in [make(request.settings) for make in makers]:
        images = images_of(source, target, joint=features.joint, across=request.across)
        images = screening.kept(images)
        pooled = pool(images, measure_images(images, features, request, reporter), features)
        samples[features.name] = pooled
        findings += (
            _across(pooled, features.name, metrics, request)
            if request.across
            else _between(pooled, features, metrics, source, target, request)
        )
    synthetic = source.cohort.synthetic or target.cohort.synthetic
    corrected = _corrected(findings, list(samples.values()))
    rows = tuple(finding.row(synthetic) for finding in corrected)
    attribution = None
    if request.attribute and rows[0].p is not None:
        attributor = Attributor(request, catalog, reporter, source, target, screening)
        attribution = attributor.attribution(samples.get(APPEARANCE))
        if rows[0].p > ALPHA:
            attribution = attribution.without_shares()
    advice = [] if request.across else advise(rows, attribution, rows[0].n_target)
    power, unplanned = None, ""
    if request.power:
        try:
            power = _power(rows[0], samples[rows[0].features], metrics[0], request)
        except DataError as problem:
            unplanned = f"--power: nothing can be planned from this pilot: {problem}"
    notes = [
        *screening.notes,
        *(f"{metric.name}: {metric.warning}" for metric in metrics if metric.warning),
        *(note for sample in samples.values() for note in sample.notes),
        *(attribution.notes if attribution else ()),
        *filter(None, [unplanned]),
    ]
    single = {} if request.across else _by_feature(samples, request)
    texts = tuple(dict.fromkeys(notes)), samples, attribution, tuple(advice), single
    return Shift(rows, verdict_of(rows[0]), *texts, power)


def _metrics(request: ShiftRequest, catalog: Catalog) -> list[ShiftMetric]:
    """The metrics without duplicates; the primary one first, those without a test last."""
    names = dict.fromkeys(map(catalog.shift_metrics.full_name, request.metrics))
    metrics: list[ShiftMetric] = [catalog.shift_metrics[name].load()() for name in names]
    metrics.sort(key=lambda metric: (not metric.tested, metric.name != PRIMARY))
    if request.power and not (metrics[0].jackknife and metrics[0].symmetric):
        raise ConfigError(
            f"--power: {metrics[0].name} has no variance by patient to plan with; "
            f"put {PRIMARY} among --metrics"
        )
    return metrics


def _power(row: ShiftRow, sample: Pooled, metric: ShiftMetric, request: ShiftRequest) -> ShiftPower:
    """Raises DataError if nothing can be planned from these patients."""
    permutations = draw_permutations(sample.comparison, request.permutations, request.seed)
    scorer = metric.prepare(sample.rows)
    return ShiftPower(row, pilot_of(scorer, sample.comparison, permutations))


def _by_feature(
    samples: Mapping[str, Pooled], request: ShiftRequest
) -> dict[str, list[FeatureShift]]:
    """Each feature's Kolmogorov-Smirnov test, for extractors of at most MOST_LISTED features."""
    return {
        name: ks_features(
            sample.rows,
            sample.comparison,
            draw_permutations(sample.comparison, request.permutations, request.seed),
        )
        for name, sample in samples.items()
        if len(sample.rows.names) <= MOST_LISTED and not sample.comparison.identical
    }


def _between(
    pooled: Pooled,
    features: FeatureExtractor,
    metrics: Sequence[ShiftMetric],
    source: DomainCases,
    target: DomainCases,
    request: ShiftRequest,
) -> list[Finding]:
    """Every metric between the whole domains, and in each cell of the grid of modalities."""
    whole = pooled.comparison
    names = domain_names(source, target, source.modalities, target.modalities)
    compared = [(names, whole)]
    for a, b in [] if features.joint else grid_cells(source, target):
        source_U = whole.source_U & pooled.unit_mask(a)
        cell = Comparison(source_U, whole.target_U & pooled.unit_mask(b), whole.patient_U)
        names = (a, b) if a != b else domain_names(source, target, (a,), (b,))
        compared.append((names, cell))
    permutations = draw_permutations(whole, request.permutations, request.seed)
    findings = []
    for metric in metrics:
        scorer = metric.prepare(pooled.rows)
        for names, comparison in compared:
            result = evaluate_metric(metric, scorer, comparison, permutations, request.seed)
            design = comparison.design
            kind = features.name, metric.name, design.name
            findings.append(Finding(*names, *kind, design.n_source, design.n_target, result))
    return findings


def _across(
    pooled: Pooled, features: str, metrics: Sequence[ShiftMetric], request: ShiftRequest
) -> list[Finding]:
    """Every metric over all groups; the first metric also between each two groups."""
    what = request.across or ""
    groups = group_units(pooled.group_U, pooled.rows.patient_U, what)
    total = int(groups.patients_G.sum())
    tested, described = [], []
    for number, metric in enumerate(metrics):
        scorer = metric.prepare(pooled.rows)
        kind = features, metric.name, "unpaired"
        result = omnibus(metric, scorer, groups, request.permutations, request.seed)
        tested.append(Finding(f"{EACH}{what}", "the others", *kind, total, total, result))
        for a, b in pairs(groups) if not number else ():
            sizes = int(groups.patients_G[a]), int(groups.patients_G[b])
            names = groups.names[a], groups.names[b]
            described.append(Finding(*names, *kind, *sizes, pair(scorer, groups, a, b)))
    return tested + described


def _corrected(findings: Sequence[Finding], samples: Sequence[Pooled]) -> list[Finding]:
    """Correct the p-values of all findings but the first, which carries the verdict.

    If the feature sets do not hold the same patients, permutations cannot be shared. Each set is
    then corrected separately, and for the number of sets (Bonferroni).
    """
    primary, *others = findings
    sets = list(dict.fromkeys(finding.features for finding in others))
    shared = all(sample.same_patients(samples[0]) for sample in samples)
    families = [set(sets)] if shared else [{name} for name in sets]
    corrected = {}
    for family in families:
        chosen = [n for n, finding in enumerate(others) if finding.features in family]
        for n, result in zip(chosen, adjust([others[n].result for n in chosen]), strict=True):
            p = result.p_adjusted
            p = None if p is None else min(1.0, p * len(families))
            corrected[n] = replace(others[n], result=replace(result, p_adjusted=p))
    first = replace(primary, result=replace(primary.result, p_adjusted=primary.result.p))
    return [first, *(corrected[n] for n in range(len(others)))]
