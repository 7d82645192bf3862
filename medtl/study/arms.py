"""The arms of a study and its runs, as plain data; needs no torch.

An arm is a way of training. It has a run for each network, budget, fold and seed. What arms share,
the training on the source, is a run of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medtl.errors import ConfigError
from medtl.study.config import (
    ADDED,
    ALL,
    OF_TRAINING,
    SCRATCH,
    ArmSpec,
    Budget,
    StudyConfig,
    budget_name,
    in_order,
)
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B, SOURCE

ZERO_SHOT, JOINT = ADDED


@dataclass(frozen=True, slots=True)
class Arm:
    """``start``: "random", "source" (the run of that arm) or weights from outside.

    ``steps`` is the setting of ``medtl train``; ``on_target`` and ``on_source`` are those taken.
    """

    name: str
    spec: ArmSpec
    start: str
    steps: int
    on_target: int
    on_source: int | None  #: None: the weights from outside do not say
    budgeted: bool = True  #: whether it sees labelled patients of the target
    rate: float = 0.0  #: the highest learning rate on the target
    optimizer: str = ""
    role: str = ""  #: of a control: control-a or control-b
    own_control: str = ""  #: control A at the arm's own rate, where that is another
    tuned_from: str = ""  #: of a tuned arm: the untuned one
    validated: bool = True  #: whether validation looks at labelled patients of the target


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of ``medtl train``. ``after``: the run whose weights it starts from; "" none.

    ``settings``: those of ``medtl train``, but for paths within the study. ``tuned``: the search
    whose choice it takes, or of which it is the ``trial``; "" none.
    """

    name: str
    arm: str
    network: str
    budget: str
    fold: int
    seed: int
    after: str
    settings: Mapping[str, Any]
    tuned: str = ""
    trial: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "settings": dict(self.settings)}


def control_arms(steps: int, before: int | None, rate: float, optimizer: str) -> list[Arm]:
    """From scratch for the target's steps (A), and for those of the source as well (B).

    ``before``: the steps on the source; None if they are not known: then there is no B.
    """
    spec = ArmSpec(strategy=SCRATCH)
    arm_a = Arm(
        CONTROL_A, spec, "random", steps, steps, 0, rate=rate, optimizer=optimizer, role=CONTROL_A
    )
    if not before:
        return [arm_a]
    every = steps + before
    return [
        arm_a,
        replace(arm_a, name=CONTROL_B, role=CONTROL_B, steps=every, on_target=every),
    ]


def with_own_controls(arms: Sequence[Arm]) -> list[Arm]:
    """The arms, with a control A for every way of training that a strategy has for itself.

    Else a transfer could owe its gain to its rate. Arms that train nothing need none.
    """
    first = arms[0]
    known = {_training(first): ""}
    controls, others = [arm for arm in arms if arm.role], []
    for arm in arms:
        if arm.role:
            continue
        way = _training(arm) if arm.on_target else _training(first)
        if way not in known:
            rate, optimizer, more = way
            known[way] = f"{CONTROL_A}-{optimizer}-{rate:g}" + (f"-{arm.name}" if more else "")
            own = {"lr": rate, "optimizer": optimizer, **dict(more)}
            spec = ArmSpec(strategy=SCRATCH, name=known[way], settings=own)
            controls.append(
                replace(first, name=known[way], spec=spec, rate=rate, optimizer=optimizer)
            )
        others.append(replace(arm, own_control=known[way]))
    return [*controls, *others]


def _training(arm: Arm) -> tuple[float, str, tuple[tuple[str, Any], ...]]:
    """Rate, optimiser, and what else of training the strategy's own settings say."""
    more = [
        (name, arm.spec.settings[name])
        for name in OF_TRAINING
        if name in arm.spec.settings and name not in ("lr", "optimizer")
    ]
    return arm.rate, arm.optimizer, tuple(more)


def planned_runs(
    config: StudyConfig, arms: Sequence[Arm], settled: Mapping[str, Mapping[str, Any]]
) -> list[PlannedRun]:
    """Every run of the study once, sources first.

    ``settled``: the settings that all runs of a network have.
    """
    cells = [
        (network, fold, seed)
        for network in settled
        for fold in range(config.folds or 1)
        for seed in range(config.seeds)
    ]
    runs: list[PlannedRun] = []
    if any(arm.start == SOURCE for arm in arms):
        runs += [_source_run(network, settled[network], *rest) for network, *rest in cells]
    for network, fold, seed in cells:
        runs += _runs_of_cell(config, arms, network, settled[network], fold, seed)
    if len(settled) == 1:
        runs = [_without_network(run) for run in runs]
    names = Counter(run.name for run in runs)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"two runs of the study would be called {twice}; rename a strategy")
    return runs


def _runs_of_cell(
    config: StudyConfig,
    arms: Sequence[Arm],
    network: str,
    settings: Mapping[str, Any],
    fold: int,
    seed: int,
) -> Iterator[PlannedRun]:
    for arm in arms:
        for budget in in_order(config.budgets) if arm.budgeted else (ALL,):
            after = _name(network, SOURCE, fold, seed) if arm.start == SOURCE else ""
            outside = {} if arm.start in ("random", SOURCE) else {"init": arm.start}
            own = {**settings, **arm.spec.settings, **outside, "steps": arm.steps, "seed": seed}
            own |= {"strategy": arm.spec.strategy, "train_patients": _patients(budget)}
            if arm.spec.strategy == SCRATCH:
                own["src"] = None
            place = f"n{budget_name(budget)}" if arm.budgeted else ""
            name = _name(network, arm.name, fold, seed, place)
            yield PlannedRun(name, arm.name, network, budget_name(budget), fold, seed, after, own)


def _source_run(network: str, settings: Mapping[str, Any], fold: int, seed: int) -> PlannedRun:
    """Training on the source alone, as a network of its own."""
    own = {**settings, "strategy": SCRATCH, "dst": settings["src"], "src": None, "seed": seed}
    own |= {"keep_blocks": None}
    return PlannedRun(_name(network, SOURCE, fold, seed), SOURCE, network, ALL, fold, seed, "", own)


def _patients(budget: Budget) -> float | None:
    return None if isinstance(budget, str) else budget


def _name(network: str, arm: str, fold: int, seed: int, budget: str = "") -> str:
    parts = (network.rpartition(":")[2], arm, budget, f"f{fold}", f"s{seed}")
    return "-".join(filter(None, parts))


def _without_network(run: PlannedRun) -> PlannedRun:
    """With shorter names, where there is one network alone."""
    lead = f"{run.network.rpartition(':')[2]}-"
    return replace(run, name=run.name.removeprefix(lead), after=run.after.removeprefix(lead))
