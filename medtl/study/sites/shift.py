"""How far each site is from all others together, by medtl's own shift test.

The images of all cases are read once. A site's value and p are those of ``medtl shift`` between the
other sites and this one: both scale the same pooled sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medtl.config import TrainConfig
from medtl.data.domain import Domain
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.shift.images.cohorts import Cohorts
from medtl.shift.images.domains import images_of
from medtl.shift.images.duplicates import screen_images
from medtl.shift.images.extract import measure_images
from medtl.shift.images.pool import pool
from medtl.shift.request import PRIMARY, build_request
from medtl.shift.stats.metric_result import evaluate_metric
from medtl.shift.stats.permutations import Comparison, draw_permutations


@dataclass(frozen=True, slots=True)
class SiteShift:
    """Of a site from all others together. None: not defined, or not tested, see ``note``."""

    metric: str
    value: float | None
    p: float | None  #: one-sided, by permutation of patients
    patients: int  #: of the site
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_sites(
    config: TrainConfig,
    domain: Domain,
    sites: Sequence[str],
    catalog: Catalog,
    reporter: Reporter,
) -> Mapping[str, SiteShift]:
    """The shift of each site, on the images of all its cases; no label is read.

    Raises:
        DataError: images are damaged or cannot be compared.
    """
    request = build_request(
        {
            "task": config.task,
            "data": config.data,
            "src": str(domain),
            "across": "site",
            "metrics": PRIMARY,
            "labels": config.labels,
            "ignore_column": config.ignore_column,
            "series": tuple(f"{name}={text}" for name, text in config.series.items()),
        }
    )
    cohorts = Cohorts(request, catalog, reporter)
    source, target = cohorts.domains()
    features = catalog.features[request.features[0]].load()(request.settings)
    images = images_of(source, target, joint=features.joint, across="site")
    images = screen_images(images, reporter, "site").kept(images)
    pooled = pool(images, measure_images(images, features, request, reporter), features)
    metric = catalog.shift_metrics[PRIMARY].load()()
    scorer = metric.prepare(pooled.rows)
    group_U = np.array(pooled.group_U)
    found = {}
    for site in sites:
        comparison = Comparison(group_U != site, group_U == site, pooled.rows.patient_U)
        permutations = draw_permutations(comparison, request.permutations, request.seed)
        result = evaluate_metric(metric, scorer, comparison, permutations, request.seed)
        patients = comparison.design.n_target
        found[site] = SiteShift(metric.name, result.value, result.p, patients, result.note)
    return found
