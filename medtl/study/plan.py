"""From a StudyConfig to its arms and runs: one set of settings, one set of splits.

The settings are those that medtl would choose for a run of the smallest budget, so that no arm owes
its spacing or network to labels that it may not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from lightning_fabric import Fabric

from medtl.config import checked
from medtl.data.case import Case
from medtl.data.splits import Split
from medtl.errors import ConfigError, near_or_known
from medtl.evaluation.evaluate import SCORES
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.study.arms import (
    ZERO_SHOT,
    Arm,
    PlannedRun,
    control_arms,
    planned_runs,
    with_own_controls,
)
from medtl.study.config import (
    ADDED,
    ALL,
    OF_STRATEGIES,
    OF_TRAINING,
    SCRATCH,
    ArmSpec,
    Budget,
    StudyConfig,
    in_order,
)
from medtl.study.trials.plan import Tuning, not_tuned, plan_tuning, tuned_runs, with_tuned
from medtl.training.plan import Plan, make_plan
from medtl.training.preview import show_plan
from medtl.training.run import resolved_config
from medtl.training.split import split_as_asked, with_budget
from medtl.training.stages import build_request, lay_out
from medtl.transfer.strategies.base import CONTROL_B, SOURCE, Request, Stage
from medtl.transfer.weights import Weights, read_weights, resolve_weights, steps_behind

#: Settings that the runs of a study have in common, whatever medtl chose for them.
_SETTLED = (
    "batch_size",
    "dst",
    "loss",
    "lr",
    "network",
    "options",
    "patch_size",
    "spacing_mm",
    "src",
    "steps",
    "transforms",
    "width",
)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Everything decided before the first run. ``stages``: those of each arm on the target."""

    config: StudyConfig
    arms: tuple[Arm, ...]
    runs: tuple[PlannedRun, ...]
    splits: tuple[Split, ...]  #: by fold
    cases: tuple[Case, ...]
    stages: Mapping[str, tuple[Stage, ...]]
    step_s: float | None  #: of one step; None: not timed
    synthetic: bool
    metric: str
    warnings: tuple[str, ...]
    tuning: Tuning | None = None
    sites: tuple[str, ...] = ()  #: by fold, where each is left out in turn

    def to_json(self) -> dict[str, Any]:
        """As ``medtl compare --dry-run --json`` prints it."""
        return {
            "synthetic": self.synthetic,
            "study": self.config.model_dump(mode="json"),
            "arms": [{**asdict(arm), "spec": arm.spec.model_dump()} for arm in self.arms],
            "runs": [run.to_json() for run in self.runs],
            "sites": list(self.sites),
            "test_patients": [len(split.test) for split in self.splits],
            "seconds_per_step": self.step_s,
            "warnings": list(self.warnings),
            **({"tuning": self.tuning.to_json()} if self.tuning else {}),
        }


def plan_study(
    config: StudyConfig, catalog: Catalog, fabric: Fabric, reporter: Reporter
) -> StudyPlan:
    """Read the data once, settle the settings of each network and lay out every run.

    Raises:
        ConfigError: an arm is unknown or cannot be planned, or a budget is larger than the cohort.
        DataError: the data cannot be read.
    """
    specs = _specs(config, catalog)
    config = config.model_copy(update={"strategies": specs})
    plans: dict[str, Plan] = {}
    settled, seconds = {}, None
    warnings: list[str] = []
    for network in config.networks or ("",):
        recorder = Recorder(silent=True)
        plan = make_plan(checked(_reference(config, network)), catalog, recorder)
        preview = show_plan(plan, catalog, fabric, recorder)
        plan = preview.plan
        settled[plan.network] = settled_settings(config, plan)
        if not plans:
            seconds = preview.seconds_per_step
            warnings = [text for text in (*recorder.warnings, plan.few_tested()) if text]
        plans[plan.network] = plan
    first = next(iter(plans.values()))
    arms = _arms(config, first, catalog, reporter)
    splits = _splits(config, first)
    tuning = None
    if config.tune is not None:
        stages_of = partial(_stages_of, catalog=catalog)
        tuning = plan_tuning(config, arms, plans, splits, stages_of)
        warnings += not_tuned(config, tuning, arms)
        arms = with_tuned(arms, tuning)
    _check_primary(config, arms, first, list(settled))
    runs = planned_runs(config, arms, settled)
    if tuning:
        runs = tuned_runs(runs, arms, tuning)
    return StudyPlan(
        config,
        tuple(arms),
        tuple(runs),
        splits,
        first.cohort.cases,
        {arm.name: _stages_of(arm, first, catalog) for arm in arms},
        seconds,
        first.cohort.synthetic,
        SCORES[first.task_type.name].COMPARED_BY,
        tuple(warnings),
        tuning,
    )


def settled_settings(config: StudyConfig, plan: Plan) -> dict[str, Any]:
    """Those of ``medtl train`` that all runs of a plan's network have."""
    resolved = resolved_config(plan).model_dump(mode="json")
    own = {name: resolved[name] for name in _SETTLED} | {"src": str(plan.request.source)}
    return {
        **{"figures": False, **config.settings, **own},
        **{"minutes": None, "task": config.task},
    }


def _specs(config: StudyConfig, catalog: Catalog) -> tuple[ArmSpec, ...]:
    """The strategies asked for, or the task's own."""
    for spec in config.strategies:
        catalog.strategies.full_name(spec.strategy)
    for name in config.networks:
        catalog.networks.full_name(name)
    if config.strategies:
        return config.strategies
    usual = catalog.tasks[config.task].load()().defaults.strategy
    if usual.rpartition(":")[2] == SCRATCH:
        raise ConfigError("name the strategies to compare, e.g. --strategies fine-tune")
    return (ArmSpec(strategy=usual),)


def _reference(config: StudyConfig, network: str) -> dict[str, Any]:
    """The settings of a run with the first strategy and the smallest budget."""
    smallest: Budget = in_order(config.budgets)[0]
    spec = config.strategies[0]
    # Of its own settings only those that lay out its stages, as the others are not for all arms.
    own = {name: value for name, value in spec.settings.items() if name not in OF_TRAINING}
    return {
        **config.settings,
        **own,
        "task": config.task,
        "strategy": spec.strategy,
        "network": network or None,
        "init": config.inits[0] if config.inits else None,
        "seed": config.split_seed,
        "train_patients": None if smallest == ALL else smallest,
        "folds": config.folds,
        "fold": 0 if config.folds else None,
    }


def _splits(config: StudyConfig, plan: Plan) -> tuple[Split, ...]:
    """The split of each fold; every budget must fit into each of them."""
    found = []
    for fold in range(config.folds or 1):
        own = plan.config.model_copy(update={"fold": fold if config.folds else None})
        split = split_as_asked(own, plan.cohort, Recorder(silent=True))
        for budget in config.budgets:
            for seed in range(config.seeds) if budget != ALL else ():
                asked = own.model_copy(update={"train_patients": budget, "seed": seed})
                with_budget(split, asked, plan.request.target, plan.cohort)
        found.append(split)
    return tuple(found)


def _arms(config: StudyConfig, plan: Plan, catalog: Catalog, reporter: Reporter) -> list[Arm]:
    """The controls, the arms that every study has, and the strategies asked for."""
    steps = plan.request.steps
    outside = {init: _outside(init) for init in config.inits}
    before = steps if not outside else _steps_behind(outside.values())
    if CONTROL_B in config.skip:
        before = None
    (scratch,) = planned_stages(ArmSpec(strategy=SCRATCH), plan, catalog, init=None)
    arms = control_arms(steps, before, max(scratch.rates.values()), scratch.optimizer)
    known = {spec.label for spec in config.strategies}
    added = [ArmSpec(strategy=name) for name in ADDED if name not in {*known, *config.skip}]
    for spec in added:
        try:
            _check_outputs(spec, outside, plan)
            arms += _arms_of(outside, spec, plan, catalog)
        except ConfigError as problem:
            why = str(problem).removeprefix(f"{spec.label}: ")
            reporter.say(f"no arm {spec.label}: {why}")
    for spec in config.strategies:
        _check_outputs(spec, outside, plan)
        arms += _arms_of(outside, spec, plan, catalog)
    return with_own_controls(arms)


def _check_primary(
    config: StudyConfig, arms: Sequence[Arm], plan: Plan, networks: Sequence[str]
) -> None:
    """Raises ConfigError where the primary comparison is none of the study's, or several."""
    primary = config.primary
    if primary is None:
        return
    outputs = plan.task.regions if plan.task_type.dense else (ALL,)
    for what, name, known in (
        ("strategy", primary.strategy, [arm.name for arm in arms if not arm.role]),
        ("output", primary.output, outputs),
        ("network", primary.network or networks[0], networks),
    ):
        if name not in known:
            raise ConfigError(f"primary: no {what} is {name!r}; {near_or_known(name, known)}")
    if len(networks) > 1 and not primary.network:
        raise ConfigError(f"primary: say which network, of {', '.join(networks)}")


def _outside(init: str) -> Weights | None:
    """Weights from outside; None of ImageNet's, which say nothing of themselves."""
    return None if init == "imagenet" else read_weights(resolve_weights(init), "")


def _steps_behind(outside: Iterable[Weights | None]) -> int | None:
    """The steps that weights from outside were trained for, if all of them say the same."""
    known = {None if weights is None else steps_behind(weights) for weights in outside}
    return known.pop() if len(known) == 1 else None


def _check_outputs(spec: ArmSpec, outside: Mapping[str, Weights | None], plan: Plan) -> None:
    """Raises ConfigError where weights that stay as they are tell other classes or regions."""
    if spec.strategy.rpartition(":")[2] != ZERO_SHOT:
        return
    wanted = plan.task.regions
    for init, weights in outside.items():
        told = () if weights is None else weights.regions
        if weights is None or (told and not set(wanted) <= set(told)):
            what = ", ".join(told) or "the classes of ImageNet"
            raise ConfigError(f"{spec.label}: {init} tells {what}, not {', '.join(wanted)}")


def _arms_of(
    outside: Mapping[str, Weights | None], spec: ArmSpec, plan: Plan, catalog: Catalog
) -> list[Arm]:
    """One arm, or one for each of the weights from outside."""
    whole = planned_stages(spec, plan, catalog, init=None)
    starts = ["random"]
    if whole[0].name == SOURCE:
        starts = list(outside) or [SOURCE]
    on_source = sum(stage.steps for stage in whole if stage.name == SOURCE)
    on_target = sum(stage.steps for stage in whole) - on_source
    on_it = [stage for stage in whole if stage.name != SOURCE and stage.steps]
    rate = max((rate for stage in on_it for rate in stage.rates.values()), default=0.0)
    optimizer = on_it[-1].optimizer if on_it else ""
    names = [spec.label] if len(starts) == 1 else [f"{spec.label}-{n}" for n in range(len(starts))]
    budgeted = spec.strategy.rpartition(":")[2] != ZERO_SHOT
    target, steps = plan.request.target, plan.request.steps
    validated = all(s.domain == target and s.select_by == "validation" for s in on_it)
    first = Arm(
        names[0], spec, starts[0], steps, on_target, on_source, budgeted, rate, optimizer,
        validated=validated,
    )  # fmt: skip
    before = {start: _steps_behind([weights]) for start, weights in outside.items()}
    return [
        replace(first, name=name, start=start, on_source=before.get(start, on_source))
        for name, start in zip(names, starts, strict=True)
    ]


def planned_stages(
    spec: ArmSpec, plan: Plan, catalog: Catalog, init: str | None, steps: int | None = None
) -> tuple[Stage, ...]:
    """The stages of a strategy under the settings of the study."""
    own = dict.fromkeys(OF_STRATEGIES) | {"strategy": spec.strategy, "init": None}
    config = plan.config.model_copy(update={**own, **spec.settings})
    request, _ = build_request(config, plan.task, plan.task_type, catalog, None)
    ours = plan.request
    settled: Request = replace(
        request,
        source=ours.source,
        target=ours.target,
        steps=steps or ours.steps,
        batch_size=ours.batch_size,
        rate=float(spec.settings.get("lr", ours.rate)),
        losses=ours.losses,
        init=init,
    )
    return lay_out(config, catalog, settled)


def _stages_of(arm: Arm, plan: Plan, catalog: Catalog) -> tuple[Stage, ...]:
    """What the arm does on the target."""
    init = None if arm.start == "random" else arm.start
    return planned_stages(arm.spec, plan, catalog, init, arm.steps)
