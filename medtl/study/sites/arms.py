"""The arms of a study that leaves each site out, and its runs.

Every arm ends with a network for the target that was trained without a label of it: the source's
network as it is, and a network of each strategy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medtl.errors import ConfigError
from medtl.networks.norms import check_norms
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.files import file_name
from medtl.study.arm_plans import planned_stages
from medtl.study.arms import ZERO_SHOT, Arm, PlannedRun
from medtl.study.config import ALL, SCRATCH, ArmSpec, StudyConfig
from medtl.study.sites.division import SiteSplit
from medtl.training.plan import Plan
from medtl.training.stages import build_request
from medtl.transfer.strategies.base import SOURCE, Stage


def site_arms(
    config: StudyConfig, plan: Plan, catalog: Catalog, reporter: Reporter
) -> dict[str, tuple[Arm, tuple[Stage, ...]]]:
    """Zero-shot and each strategy, with what it does beside the source's own training.

    Without ``strategies``, those of the catalog that use unlabelled images of the target.

    Raises:
        ConfigError: a strategy cannot be planned, or would see labels of the target.
    """
    found = {ZERO_SHOT: _arm(ArmSpec(strategy=ZERO_SHOT), plan, catalog)}
    for spec in config.strategies:
        if spec.label != ZERO_SHOT:
            found[spec.label] = _arm(spec, plan, catalog)
    if not config.strategies:
        found |= _usual_arms(plan, catalog, reporter)
    if len(found) < 2:
        raise ConfigError(
            "--leave-site-out compares strategies that use unlabelled images of the target with "
            "the source as it is, and there is none; name --strategies, for example adabn"
        )
    return found


def _usual_arms(
    plan: Plan, catalog: Catalog, reporter: Reporter
) -> Iterator[tuple[str, tuple[Arm, tuple[Stage, ...]]]]:
    for name in sorted(catalog.strategies):
        spec = ArmSpec(strategy=name)
        try:
            stages = planned_stages(spec, plan, catalog, init=None)
            if any(stage.unlabelled for stage in stages):
                yield spec.label, _arm(spec, plan, catalog)
        except ConfigError as problem:
            reporter.say(f"no arm {spec.label}: {problem}")


def _arm(spec: ArmSpec, plan: Plan, catalog: Catalog) -> tuple[Arm, tuple[Stage, ...]]:
    """The arm, from the source's network or beside its training, and its stages."""
    whole = planned_stages(spec, plan, catalog, init=None)
    own = tuple(stage for stage in whole if stage.name != SOURCE)
    target = plan.request.target
    labelled = [stage for stage in whole if target in stage.learnt_from()]
    if labelled or not own or any((stage.evaluate_on or stage.domain) != target for stage in own):
        raise ConfigError(
            f"strategy {spec.label} trains on labels of the target, of which --leave-site-out has "
            "none; name strategies that use unlabelled images, for example adabn or dann"
        )
    if any(stage.norm_stats == "target" for stage in own):
        check_norms(build_request(plan.config, plan.task, plan.task_type, catalog, None)[1])
    start = SOURCE if own[0].init == "previous" else "random"
    if start == SOURCE:
        own = planned_stages(spec, plan, catalog, init=SOURCE)
        if any(stage.name == SOURCE for stage in own):
            raise ConfigError(
                f"strategy {spec.label} trains on the source again from other weights; leave it out"
            )
    steps = sum(stage.steps for stage in own)
    rate = max((rate for stage in own if stage.steps for rate in stage.rates.values()), default=0.0)
    before = plan.request.steps if start == SOURCE else 0
    optimizer = own[-1].optimizer if steps else ""
    arm = Arm(spec.label, spec, start, plan.request.steps, steps, before, False, rate, optimizer)
    return arm, own


def site_runs(
    config: StudyConfig,
    arms: Mapping[str, tuple[Arm, tuple[Stage, ...]]],
    splits: Sequence[SiteSplit],
    settled: Sequence[Mapping[str, Any]],
    network: str,
) -> list[PlannedRun]:
    """Every run once, the sources' first.

    A site whose only patient is tested has no arm that needs unlabelled images.

    Args:
        settled: by site, the settings that all its runs have.
    """
    cells = [(fold, seed) for fold in range(len(splits)) for seed in range(config.seeds)]
    names = _names(splits)
    runs = []
    for fold, seed in cells:
        own = {**settled[fold], "strategy": SCRATCH, "dst": settled[fold]["src"], "src": None}
        name = f"{SOURCE}-{names[fold]}-s{seed}"
        runs.append(PlannedRun(name, SOURCE, network, ALL, fold, seed, "", {**own, "seed": seed}))
    for fold, seed in cells:
        for arm, stages in arms.values():
            if not splits[fold].unlabelled and any(stage.unlabelled for stage in stages):
                continue
            after = f"{SOURCE}-{names[fold]}-s{seed}" if arm.start == SOURCE else ""
            own = {**settled[fold], **arm.spec.settings, "steps": arm.steps, "seed": seed}
            own |= {"strategy": arm.spec.strategy, "skip_source": not after}
            name = f"{arm.name}-{names[fold]}-s{seed}"
            runs.append(PlannedRun(name, arm.name, network, ALL, fold, seed, after, own))
    return runs


def _names(splits: Sequence[SiteSplit]) -> list[str]:
    """Of the sites in the names of folders: the site's own, or its number where that is none."""
    plain = [file_name(each.site) for each in splits]
    return [
        name if plain.count(name) == 1 and name == each.site else f"f{fold}"
        for fold, (name, each) in enumerate(zip(plain, splits, strict=True))
    ]
