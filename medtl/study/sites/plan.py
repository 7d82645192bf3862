"""From a StudyConfig to the runs of a study that leaves each site out.

The settings of a site's runs are those that medtl chooses for training on the other sites, so that
no arm owes its spacing or patch to an image of the target. Runs of a site share them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_fabric import Fabric

from medtl.config import checked
from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain, select
from medtl.data.splits import write_splits
from medtl.errors import ConfigError, shortened
from medtl.evaluation.evaluate import SCORES
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.study.arms import ZERO_SHOT
from medtl.study.config import OF_STRATEGIES, StudyConfig
from medtl.study.plan import StudyPlan, settled_settings
from medtl.study.sites.arms import site_arms, site_runs
from medtl.study.sites.division import SiteSplit, divided, sites_of
from medtl.training.plan import Plan, draft_stages, make_plan, read_data
from medtl.training.preview import show_plan


def plan_sites(
    config: StudyConfig, catalog: Catalog, fabric: Fabric, reporter: Reporter
) -> StudyPlan:
    """Read the data, divide the patients for each site and lay out every run.

    Raises:
        ConfigError: fewer than three sites, or a strategy that is unknown or cannot be planned.
        DataError: the data cannot be read, or do not name the site of every patient.
    """
    for spec in config.strategies:
        catalog.strategies.full_name(spec.strategy)
    for name in config.networks:
        catalog.networks.full_name(name)
    recorder = Recorder(silent=True)
    cohort, domain = _cohort(config, catalog, recorder)
    cases = select(domain, cohort.cases)
    sites = sites_of(cases)
    asked = checked({**config.settings, "task": config.task})
    splits = [
        divided(
            cases,
            site,
            seed=config.split_seed,
            test_fraction=asked.test_fraction,
            val_fraction=asked.val_fraction,
        )
        for site in sites
    ]
    first, seconds, settled = None, None, []
    steps: dict[str, Any] = {}
    for each in splits:
        plan = _plan_of(config, each, domain, sites, cases, catalog, recorder, steps)
        if first is None:
            preview = show_plan(plan, catalog, fabric, recorder)
            plan = first = preview.plan
            seconds = preview.seconds_per_step
            # As many for each site, also where --minutes have chosen them.
            steps = {"steps": first.request.steps, "minutes": None}
        settled.append(settled_settings(config, plan))
    assert first is not None
    arms = site_arms(config, first, catalog, reporter)
    known = tuple(arm.spec for arm, _ in arms.values())
    return StudyPlan(
        config=config.model_copy(update={"strategies": known}),
        arms=tuple(arm for arm, _ in arms.values()),
        runs=tuple(site_runs(config, arms, splits, settled, first.network)),
        splits=tuple(each.split for each in splits),
        cases=cases,
        stages={name: stages for name, (_, stages) in arms.items()},
        step_s=seconds,
        synthetic=first.cohort.synthetic,
        metric=SCORES[first.task_type.name].COMPARED_BY,
        warnings=tuple(dict.fromkeys((*recorder.warnings, *_few(splits)))),
        sites=sites,
    )


def _settings(config: StudyConfig) -> dict[str, Any]:
    """Those of a run that trains on a source and scores it on the target."""
    own = dict.fromkeys(OF_STRATEGIES) | {"task": config.task, "strategy": ZERO_SHOT}
    network = config.networks[0] if config.networks else None
    return {**config.settings, **own, "network": network, "seed": config.split_seed}


def _cohort(config: StudyConfig, catalog: Catalog, recorder: Recorder) -> tuple[Cohort, Domain]:
    """The labelled cases, and the domain of which a site is source or target."""
    text = config.settings.get("dst") or config.settings.get("src")
    own = {**_settings(config), "test_fraction": None, "val_fraction": None}
    draft = draft_stages(checked({**own, "src": text, "dst": text}), catalog, recorder)
    if text is None:  # a task may have other images by default on either side
        target = str(draft.request.target)
        draft = draft_stages(checked({**own, "src": target, "dst": target}), catalog, recorder)
    cohort = read_data(draft, recorder).cohort
    if cohort.test or cohort.folds:
        raise ConfigError(
            "--leave-site-out divides the patients itself, and these data come with a test set or "
            "folds of their own"
        )
    return cohort, draft.request.target


def _plan_of(
    config: StudyConfig,
    split: SiteSplit,
    domain: Domain,
    sites: tuple[str, ...],
    cases: tuple[Case, ...],
    catalog: Catalog,
    recorder: Recorder,
    steps: dict[str, Any],
) -> Plan:
    """Training on all other sites, scored on this one."""
    others = tuple(site for site in sites if site != split.site)
    ends = {
        "src": str(replace(domain, sites=others)),
        "dst": str(replace(domain, sites=(split.site,))),
    }
    own = {**_settings(config), **ends, **steps, "test_fraction": None, "val_fraction": None}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "splits.json"
        write_splits(path, split.split, cases)
        plan = make_plan(checked({**own, "splits": path}), catalog, recorder)
    return replace(plan, config=plan.config.model_copy(update={"splits": None}))


def _few(splits: list[SiteSplit]) -> list[str]:
    """Sites that say little or nothing."""
    found = []
    few = [each.site for each in splits if len(each.tested) < FEWEST_FOR_INTERVAL]
    if few:
        found.append(
            f"fewer than {FEWEST_FOR_INTERVAL} patients are tested of {shortened(few)}: no "
            "interval there"
        )
    alone = [each.site for each in splits if not each.unlabelled]
    if alone:
        found.append(
            f"one patient alone, who is tested: {shortened(alone)}; arms that need unlabelled "
            "images of other patients are left out there"
        )
    return found
