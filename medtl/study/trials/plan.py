"""Which arms of a study are tuned, in which of its cells, and over what.

A search has the patients of one untuned run: those of its network, budget, fold and seed. So no
tuned arm owes its rate to labels beyond its budget. Under ``all``, every seed has the same
patients, and one search serves all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import medtl
from medtl.config import checked, kept_settings
from medtl.data.case import Case
from medtl.data.content_hash import contents_of, file_hash
from medtl.data.run_inputs import inputs_of
from medtl.data.splits import Split
from medtl.errors import ConfigError, shortened
from medtl.study.arms import Arm, PlannedRun
from medtl.study.config import ALL, TUNED, Budget, StudyConfig, budget_name
from medtl.study.trials.records import Search, TuningPlan
from medtl.study.trials.space import Space, around, check_optuna, draw_trials
from medtl.training.optimizer import WEIGHT_DECAY
from medtl.training.plan import Plan
from medtl.training.split import cases_for, with_budget
from medtl.transfer.imagenet import IMAGENET
from medtl.transfer.strategies.base import SOURCE, Stage
from medtl.transfer.weights import resolve_weights

#: The stages of an arm on the target, in the network of a plan. Raises ConfigError.
StagesOf = Callable[[Arm, Plan], tuple[Stage, ...]]


@dataclass(frozen=True, slots=True)
class Tuning:
    """``spaces`` and ``drawn``: by network and untuned arm."""

    trials: int
    arms: tuple[str, ...]  #: the untuned ones
    budgets: tuple[str, ...]  #: those with patients to validate with
    spaces: Mapping[tuple[str, str], Space]
    drawn: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        """As ``--dry-run --json`` prints it."""
        rows = [
            {"network": network, "arm": arm, **space.words()}
            for (network, arm), space in self.spaces.items()
        ]
        return {"trials": self.trials, "budgets": list(self.budgets), "searched": rows}


def plan_tuning(
    config: StudyConfig,
    arms: Sequence[Arm],
    plans: Mapping[str, Plan],
    splits: Sequence[Split],
    stages_of: StagesOf,
) -> Tuning:
    """What is searched. ``plans``: by network; ``splits``: by fold.

    Raises:
        ConfigError: Optuna is not there, no budget has patients to validate with, or an arm has
            the name of a tuned one.
    """
    assert config.tune
    check_optuna()
    first = next(iter(plans.values()))
    names = {arm.name for arm in arms}
    tuned = [arm for arm in arms if _can_be_tuned(arm)]
    if twice := [arm.name for arm in tuned if f"{arm.name}{TUNED}" in names]:
        raise ConfigError(f"strategy {twice[0]}{TUNED} has the name of a tuned arm; rename it")
    budgets = [b for b in config.budgets if _validates(b, config, first, splits)]
    if not budgets:
        raise ConfigError(
            "tune: no budget leaves a patient to validate with; give one of 10 patients or more"
        )
    spaces = {
        (network, arm.name): _space(arm, plan, stages_of)
        for network, plan in plans.items()
        for arm in tuned
    }
    return Tuning(
        config.tune,
        tuple(arm.name for arm in tuned),
        tuple(map(budget_name, budgets)),
        spaces,
        {place: draw_trials(space, config.tune) for place, space in spaces.items()},
    )


def not_tuned(config: StudyConfig, tuning: Tuning, arms: Sequence[Arm]) -> Iterator[str]:
    """A line each on budgets and on strategies that cannot be tuned."""
    small = [name for name in map(budget_name, config.budgets) if name not in tuning.budgets]
    if small:
        yield (
            f"budgets {', '.join(small)} are not tuned: they leave no patient to validate with "
            "(that takes 10)"
        )
    strategies = [arm for arm in arms if not arm.role and arm.on_target and not arm.tuned_from]
    left_out = [arm.name for arm in strategies if arm.name not in tuning.arms]
    if left_out:
        yield (
            f"{shortened(left_out)}: not tuned, as the target's labels are not what they are "
            "validated with"
        )


def with_tuned(arms: Sequence[Arm], tuning: Tuning) -> list[Arm]:
    """Each tuned arm beside its untuned one."""
    found = []
    for arm in arms:
        found.append(arm)
        if arm.name in tuning.arms:
            name = f"{arm.name}{TUNED}"
            found.append(replace(arm, name=name, own_control="", tuned_from=arm.name))
    return found


def tuned_runs(runs: Sequence[PlannedRun], arms: Sequence[Arm], tuning: Tuning) -> list[PlannedRun]:
    """The runs, where those of tuned arms name their search; not in budgets without one."""
    tuned = {arm.name for arm in arms if arm.tuned_from}
    found = []
    for run in runs:
        if run.arm not in tuned:
            found.append(run)
        elif run.budget in tuning.budgets:
            found.append(replace(run, tuned=_searched(run)))
    return found


def _searched(run: PlannedRun) -> str:
    """The name of the search that a tuned run takes its settings from."""
    if run.budget != ALL:
        return run.name
    return f"{run.name.removesuffix(f'-s{run.seed}')}-s0"


def _can_be_tuned(arm: Arm) -> bool:
    """Whether it trains on the target, and labels of the target select its weights."""
    trains = arm.on_target and arm.budgeted and arm.validated
    return bool(trains) and arm.role in ("", arm.name)


def _validates(budget: Budget, config: StudyConfig, plan: Plan, splits: Sequence[Split]) -> bool:
    """Whether there are patients to validate with, in every fold and seed."""
    target, cohort = plan.request.target, plan.cohort
    for split in splits:
        for seed in range(config.seeds) if budget != ALL else (0,):
            wanted = None if budget == ALL else budget
            asked = plan.config.model_copy(update={"train_patients": wanted, "seed": seed})
            own = with_budget(split, asked, target, cohort)
            if not any(c.labelled for c in cases_for((), own, target, "val", cohort.cases)):
                return False
    return True


def _space(arm: Arm, plan: Plan, stages_of: StagesOf) -> Space:
    own = arm.spec.settings
    last = stages_of(arm, plan)[-1]
    usual = WEIGHT_DECAY[last.optimizer] if last.weight_decay is None else last.weight_decay
    depths = [] if arm.role else list(_depths(arm, plan, stages_of))
    return Space(
        around(float(own.get("lr", plan.request.rate))),
        around(usual) if usual else None,
        tuple(depths) if len(depths) > 1 else (),
    )


def _depths(arm: Arm, plan: Plan, stages_of: StagesOf) -> Iterator[int]:
    """Every depth that the strategy takes in this network."""
    for depth in range(len(plan.request.blocks) + 1):
        spec = arm.spec.model_copy(update={"settings": {**arm.spec.settings, "depth": depth}})
        try:
            stages_of(replace(arm, spec=spec), plan)
        except ConfigError:
            continue
        yield depth


def searches(
    runs: Sequence[PlannedRun],
    arms: Sequence[Arm],
    tuning: Tuning,
    cases: Sequence[Case],
    splits: Sequence[Split],
) -> TuningPlan:
    """Every search of the study; reads the files of the patients that are not tested."""
    untuned = {_place(run, run.arm): run for run in runs if not run.tuned}
    origin = {arm.name: arm for arm in arms if arm.tuned_from}
    data = [_data(cases, split) for split in splits]
    found = []
    for run in runs:
        if run.tuned != run.name:
            continue
        arm = origin[run.arm]
        own = untuned[_place(run, arm.tuned_from)]
        trials = tuple(dict(each) for each in tuning.drawn[run.network, arm.tuned_from])
        depends_on = [
            kept_settings(checked(own.settings)),
            trials,
            data[run.fold],
            _start(arm.start),
            medtl.__version__,
        ]
        found.append(
            Search(
                name=run.name,
                run=own.name,
                arm=run.arm,
                network=run.network,
                budget=run.budget,
                fold=run.fold,
                seed=run.seed,
                key=_key(depends_on),
                trials=trials,
            )
        )
    return TuningPlan(searches=tuple(found))


def _place(run: PlannedRun, arm: str) -> tuple[str, str, str, int, int]:
    return run.network, arm, run.budget, run.fold, run.seed


def _data(every: Sequence[Case], split: Split) -> dict[str, Any]:
    """The patients that a search may see, and the contents of their files."""
    patients = {*split.train, *split.val}
    cases = [case for case in every if case.patient in patients]
    inputs = inputs_of(cases, contents_of(cases), None)
    return {
        "train": split.train,
        "val": split.val,
        "cases": {case.id: case.patient for case in cases},
        "files": inputs.model_dump(mode="json"),
    }


def _start(start: str) -> str:
    """What the arm starts from, wherever it lies."""
    if start in ("random", SOURCE, IMAGENET):
        return start
    return file_hash(resolve_weights(start))


def _key(depends_on: Any) -> str:
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
