"""``medtl shift`` from a request to a Shift: read, measure features, pool, compare, test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from medtl.shift.report.result import Shift
from medtl.shift.report.row import EACH, ShiftRow, verdict_of
from medtl.shift.request import PRIMARY, ShiftRequest
from medtl.shift.stats.metric_result import Comparison, MetricResult, adjust, evaluate_metric
from medtl.shift.stats.omnibus import group_units, omnibus, pair, pairs
from medtl.shift.stats.permutations import ALPHA, draw_permutations

#: FeatureExtractor that are listed one by one, at most.
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of some features on one source and target."""

    source: str
    target: str
    features: str
    metric: str
    design: str
    n_source: int
    n_target: int
    outcome: MetricResult


def measure_shift(request: ShiftRequest, catalog: Catalog, reporter: Reporter) -> Shift:
    """Measure the shift between two domains, or across sites, test it, and say what it means.

    Raises ConfigError and DataError for whatever is wrong with the request or the data.
    """
    names = dict.fromkeys(map(catalog.shift_metrics.full_name, request.metrics))
    metrics = [catalog.shift_metrics[name].load()() for name in names]
    metrics.sort(key=lambda metric: (not metric.tested, metric.name != PRIMARY))
    kinds = dict.fromkeys(map(catalog.features.full_name, request.features))
    makers = [catalog.features[name].load() for name in kinds]
    cohorts = Cohorts(request, catalog, reporter)
    source, target = cohorts.sides()
    request = replace(request, settings=replace(request.settings, regions=cohorts.regions()))
    single = images_of(source, target, joint=False, across=request.across)
    screening = screen_images(single, reporter, request.across)
    found: list[Finding] = []
    notes = [*screening.notes, *_warnings(metrics)]
    samples: dict[str, Pooled] = {}
    for features in [make(request.settings) for make in makers]:
        joint = features.joint
        images = screening.of(images_of(source, target, joint=joint, across=request.across))
        measured = measure_images(images, features, request, reporter)
        pooled = pool(images, measured, features)
        notes += pooled.notes
        samples[features.name] = pooled
        found += (
            _across(pooled, features, metrics, request)
            if request.across
            else _between(pooled, features, metrics, source, target, request)
        )
    synthetic = source.cohort.synthetic or target.cohort.synthetic
    rows = tuple(_row(finding, synthetic) for finding in _corrected(found, list(samples.values())))
    attribution = None
    if request.attribute and rows[0].p is not None:
        explainer = Attributor(request, catalog, reporter, source, target, screening)
        attribution = explainer.attribution(samples.get(APPEARANCE))
        if rows[0].p > ALPHA:
            attribution = attribution.without_shares()
        notes += attribution.notes
    advice = () if request.across else advise(rows, attribution, rows[0].n_target)
    return Shift(
        rows,
        verdict_of(rows[0]),
        tuple(dict.fromkeys(notes)),
        samples,
        attribution,
        tuple(map(str, advice)),
        {} if request.across else _by_feature(samples, request),
    )


def _warnings(metrics: Sequence[ShiftMetric]) -> list[str]:
    return [f"{metric.name}: {metric.warning}" for metric in metrics if metric.warning]


def _by_feature(
    samples: Mapping[str, Pooled], request: ShiftRequest
) -> dict[str, list[FeatureShift]]:
    """Which features differ, by Kolmogorov and Smirnov; of sets that people can read."""
    found = {}
    for name, sample in samples.items():
        sides = sample.sides
        if len(sample.rows.names) > MOST_LISTED or sides.identical:
            continue
        drawn = draw_permutations(*sides.units, request.permutations, request.seed)
        found[name] = ks_features(
            sample.rows,
            sides.source_U,
            sides.target_U,
            *drawn.sides(*sides.units),
            exhaustive=drawn.exhaustive,
        )
    return found


def _between(
    pooled: Pooled,
    features: FeatureExtractor,
    metrics: Sequence[ShiftMetric],
    source: DomainCases,
    target: DomainCases,
    request: ShiftRequest,
) -> list[Finding]:
    """Every metric on the domains as wholes, and on each cell of the grid."""
    compared = _comparisons(pooled, source, target, features)
    whole = compared[0][2]
    permutations = draw_permutations(*whole.units, request.permutations, request.seed)
    found = []
    for metric in metrics:
        scorer = metric.prepare(pooled.rows)
        for source_name, target_name, sides in compared:
            outcome = evaluate_metric(metric, scorer, sides, permutations, request.seed)
            found.append(
                Finding(
                    source_name, target_name, features.name, metric.name,
                    sides.design.name, sides.n_source, sides.n_target, outcome,
                )
            )  # fmt: skip
    return found


def _comparisons(
    pooled: Pooled, source: DomainCases, target: DomainCases, features: FeatureExtractor
) -> list[tuple[str, str, Comparison]]:
    patient_U = pooled.rows.patient_U
    ends = domain_names(source, target, source.modalities, target.modalities)
    made = [(*ends, pooled.sides)]
    for a, b in [] if features.joint else grid_cells(source, target):
        sides = Comparison(
            pooled.source_U & pooled.unit_mask(a), pooled.target_U & pooled.unit_mask(b), patient_U
        )
        made.append((*((a, b) if a != b else domain_names(source, target, (a,), (b,))), sides))
    return made


def _across(
    pooled: Pooled,
    features: FeatureExtractor,
    metrics: Sequence[ShiftMetric],
    request: ShiftRequest,
) -> list[Finding]:
    """Every metric over all groups; the first also between each two of them."""
    what = request.across or ""
    groups = group_units(pooled.group_U, pooled.rows.patient_U, what)
    total = int(groups.patients_G.sum())
    found, described = [], []
    for number, metric in enumerate(metrics):
        scorer = metric.prepare(pooled.rows)
        outcome = omnibus(metric, scorer, groups, request.permutations, request.seed)
        ends = f"{EACH}{what}", "the others"
        found.append(Finding(*ends, features.name, metric.name, "unpaired", total, total, outcome))
        for a, b in pairs(groups) if not number else ():
            sizes = int(groups.patients_G[a]), int(groups.patients_G[b])
            names = groups.names[a], groups.names[b]
            outcome = pair(scorer, groups, a, b)
            described.append(
                Finding(*names, features.name, metric.name, "unpaired", *sizes, outcome)
            )
    return found + described


def _corrected(found: Sequence[Finding], samples: Sequence[Pooled]) -> list[Finding]:
    """The first carries the verdict as it stands; all others are corrected together.

    Where feature sets do not hold the same patients, permutations cannot be shared: each set is
    corrected by itself, and for the number of sets (Bonferroni).
    """
    primary, *others = found
    sets = list(dict.fromkeys(finding.features for finding in others))
    shared = all(sample.same_patients(samples[0]) for sample in samples)
    families = [set(sets)] if shared else [{name} for name in sets]
    corrected = {}
    for family in families:
        chosen = [n for n, finding in enumerate(others) if finding.features in family]
        for n, outcome in zip(chosen, adjust([others[n].outcome for n in chosen]), strict=True):
            p = outcome.p_adjusted
            p = None if p is None else min(1.0, p * len(families))
            corrected[n] = replace(others[n], outcome=replace(outcome, p_adjusted=p))
    first = replace(primary, outcome=replace(primary.outcome, p_adjusted=primary.outcome.p))
    return [first, *(corrected[n] for n in range(len(others)))]


def _row(finding: Finding, synthetic: bool) -> ShiftRow:
    outcome = finding.outcome
    return ShiftRow(
        finding.source,
        finding.target,
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
        finding.design,
        finding.n_source,
        finding.n_target,
        synthetic,
        outcome.note,
    )
