"""From the finished runs of a study that leaves each site out to what it found."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_fabric import Fabric
from pydantic import TypeAdapter

from medtl.config import TrainConfig, checked
from medtl.data.case import Case
from medtl.data.cohort import open_cohort
from medtl.data.domain import Domain, parse_domain, select
from medtl.data.groups import with_groups
from medtl.data.same_images import with_sharers_joined
from medtl.data.splits import read_splits
from medtl.errors import MedtlError, RunError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.runtime.figure_style import attempted
from medtl.runtime.files import write_csv
from medtl.runtime.records import read_json
from medtl.study.arms import ZERO_SHOT
from medtl.study.folder import StudyFolder
from medtl.study.sites.figure import sites_figure
from medtl.study.sites.results import SiteFindings, find_sites
from medtl.study.sites.scores import SiteScores, read_site_scores
from medtl.study.sites.selectors import score_runs
from medtl.study.sites.shift import SiteShift, measure_sites

_SHIFT = "sites/shift.json"

_SHIFTS = TypeAdapter(dict[str, SiteShift])


def find_over_sites(
    folder: StudyFolder,
    failed: Mapping[str, str],
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
) -> tuple[SiteFindings, SiteScores]:
    """Measure shifts and selectors, as far as they are not measured yet, and compare.

    Args:
        failed: run -> why it failed.

    Raises:
        RunError: no run on a target has ended.
    """
    scores = read_site_scores(folder)
    if ZERO_SHOT not in scores.arms:
        reasons = next(iter(failed.values()), "no run of zero-shot has ended")
        raise RunError(f"{folder.path}: there is nothing to compare: {reasons}")
    config, domain, cases = _cases(folder, catalog)
    splits = [read_splits(folder.split(n), cases) for n in range(len(scores.sites))]
    shifts = _shifts(folder, config, domain, catalog, reporter)
    selected = score_runs(folder, cases, domain, splits, catalog, fabric, reporter)
    found = find_sites(scores, shifts, selected, margin=folder.config.margin)
    return found, scores


def _cases(folder: StudyFolder, catalog: Catalog) -> tuple[TrainConfig, Domain, tuple[Case, ...]]:
    """The cases that the study was planned on."""
    run = next(run for run in folder.runs() if run.arm == ZERO_SHOT)
    config = checked(dict(run.settings))
    domain = parse_domain(str(config.dst))
    domain = Domain(domain.task, domain.data, domain.modalities, (), domain.part)
    recorder = Recorder(silent=True)
    cohort = open_cohort(
        catalog.tasks[config.task].load()(),
        config.data,
        recorder,
        ignored=config.ignore_column or (),
        series=config.series,
        labels=config.labels,
        required=domain.modalities,
        segmented=True,
    )
    cohort = with_groups(cohort, config.groups, recorder)
    cohort = with_sharers_joined(cohort, domain.modalities, recorder)
    labelled = [case for case in cohort.cases if case.labelled]
    return config, domain, select(domain, labelled)


def _shifts(
    folder: StudyFolder,
    config: TrainConfig,
    domain: Domain,
    catalog: Catalog,
    reporter: Reporter,
) -> Mapping[str, SiteShift]:
    path = folder.path / _SHIFT
    if path.is_file():
        return _SHIFTS.validate_python(read_json(path))
    try:
        found = measure_sites(config, domain, folder.plan.sites, catalog, reporter)
    except MedtlError as problem:  # the scores are worth as much without it
        reporter.warn(f"the shift is not measured: {problem}")
        return {}
    folder.write_json(_SHIFT, {site: shift.to_json() for site, shift in found.items()})
    return found


def write_sites(
    folder: StudyFolder,
    found: SiteFindings,
    scores: SiteScores,
    reporter: Reporter,
    *,
    synthetic: bool,
) -> None:
    """``scores.csv`` and ``figures/sites.png``."""
    rows = list(scores.rows())
    write_csv(folder.path / "scores.csv", list(rows[0]), [list(row.values()) for row in rows])
    (folder.path / "figures").mkdir(exist_ok=True)
    with attempted("sites.png", reporter.warn):
        sites_figure(folder.path / "figures" / "sites.png", found, synthetic=synthetic)
