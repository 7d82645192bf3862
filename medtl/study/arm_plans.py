"""The arms of a study as a plan of training allows them: controls, added arms and strategies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.study.arms import JOINT, ZERO_SHOT, Arm, control_arms, with_own_controls
from medtl.study.config import ADDED, OF_STRATEGIES, SCRATCH, ArmSpec, StudyConfig
from medtl.training.plan import Plan
from medtl.training.stages import build_request, lay_out
from medtl.transfer.strategies.base import CONTROL_B, SOURCE, Request, Stage
from medtl.transfer.weights import Weights, read_weights, resolve_weights, steps_behind


def plan_arms(config: StudyConfig, plan: Plan, catalog: Catalog, reporter: Reporter) -> list[Arm]:
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
            if spec.strategy == JOINT and outside and plan.request.source == plan.request.target:
                why = "the weights to start from bring no source images; name some by --src"
            reporter.say(f"no arm {spec.label}: {why}")
    for spec in config.strategies:
        _check_outputs(spec, outside, plan)
        arms += _arms_of(outside, spec, plan, catalog)
    return with_own_controls(arms)


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


def stages_of(arm: Arm, plan: Plan, catalog: Catalog) -> tuple[Stage, ...]:
    """What the arm does on the target."""
    init = None if arm.start == "random" else arm.start
    return planned_stages(arm.spec, plan, catalog, init, arm.steps)


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
        named = () if weights is None else weights.regions
        if weights is None or (named and not set(wanted) <= set(named)):
            what = ", ".join(named) or "the classes of ImageNet"
            raise ConfigError(f"{spec.label}: {init} tells {what}, not {', '.join(wanted)}")
