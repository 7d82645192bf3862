"""From a StudyConfig to its arms and runs: one set of settings, one set of splits.

The settings are those that medtl would choose for a run of the smallest budget, so that no arm owes
its spacing or network to labels that it may not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from lightning_fabric import Fabric

from medtl.config import checked
from medtl.data.case import Case
from medtl.data.splits import Split
from medtl.errors import ConfigError, near_or_known
from medtl.evaluation.evaluate import SCORES
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.study.arm_plans import plan_arms, stages_of
from medtl.study.arms import (
    Arm,
    PlannedRun,
    planned_runs,
)
from medtl.study.config import (
    ALL,
    OF_TRAINING,
    SCRATCH,
    ArmSpec,
    Budget,
    StudyConfig,
    in_order,
)
from medtl.study.trials.plan import Tuning, not_tuned, plan_tuning, tuned_runs, with_tuned
from medtl.training.checks import too_few_for
from medtl.training.plan import Plan, make_plan
from medtl.training.preview import show_plan
from medtl.training.run import resolved_config
from medtl.training.split import split_as_asked, with_budget
from medtl.transfer.strategies.base import Stage

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


@contextmanager
def _named_budgets() -> Iterator[None]:
    """Errors name the option of a study, not that of its runs."""
    try:
        yield
    except ConfigError as problem:
        text = str(problem)
        if "--train-patients" not in text:
            raise
        raise ConfigError(text.replace("--train-patients", "--budgets")) from None


@_named_budgets()
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
            warnings = list(recorder.warnings)
        plans[plan.network] = plan
    first = next(iter(plans.values()))
    arms = plan_arms(config, first, catalog, reporter)
    splits = _splits(config, first)
    warnings += _few_tested(config, first, splits)
    tuning = None
    if config.tune is not None:
        tuning = plan_tuning(config, arms, plans, splits, partial(stages_of, catalog=catalog))
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
        {arm.name: stages_of(arm, first, catalog) for arm in arms},
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


def _few_tested(config: StudyConfig, plan: Plan, splits: Sequence[Split]) -> Iterator[str]:
    """A warning where the test patients of all folds together are too few for an interval."""
    tested = plan.labelled_patients() & {who for split in splits for who in split.test}
    if len(tested) < FEWEST_FOR_INTERVAL:
        how = "give more data" if config.folds else "give more data, or test all by --folds 5"
        yield f"{too_few_for('an interval', len(tested), plan.cohort.counted)}; {how}"


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
