"""Carry out one run of a recipe, with the leaks that its protocol had, on purpose.

Outside of a recipe nothing leaks so: the split of a run is changed here, after it was planned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.config import TrainConfig, checked
from medtl.data.splits import Split
from medtl.errors import ConfigError, Interrupted, RunError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder
from medtl.runtime.run_folder import CONFIG, STAGES, SUMMARY, Run
from medtl.study.recipes.config import LEAKS, SEEN_BEFORE, SELECTED_ON_TEST

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from medtl.training.plan import Plan
    from medtl.training.preview import Preview

#: Begins what a task says of a protocol that leaks; other remarks are doubts.
_LEAK = "LEAK: "


def carry_out(
    settings: Mapping[str, Any], path: Path, catalog: Catalog, leaks: Collection[str] = ()
) -> dict[str, Any]:
    """Train in ``path``, or go on there; returns the scores of the last stage and what was scored.

    Returns:
        ``{"scores": {output: {metric: interval}}, "cases", "leaks": [sentence], "notes",
        "synthetic"}``; no scores where no test patient has a label.

    Raises:
        Interrupted: a signal came; the same call goes on.
    """
    from medtl.runtime.device import build_fabric, own_randomness
    from medtl.training.launch import check_names
    from medtl.training.run import run_plan

    config = checked({"figures": False, **settings, "out": str(path)})
    check_names(config, catalog)
    recorder = Recorder(silent=True)
    fabric = build_fabric(config.device, config.precision)
    try:
        with own_randomness():
            plan = plan_run(config, path, catalog, fabric, leaks).plan
            begun = (path / CONFIG).is_file()
            # A finished run is read; one that was stopped goes on.
            if not (begun and (path / SUMMARY).is_file()):
                run_plan(plan, catalog, fabric, recorder, Run(path) if begun else path)
            return _scores(plan, Run(path), catalog, fabric, leaks)
    except Interrupted:
        raise Interrupted(f"stopped in run {path.name}") from None


def plan_run(
    config: TrainConfig,
    path: Path,
    catalog: Catalog,
    fabric: Fabric,
    leaks: Collection[str],
) -> Preview:
    """The plan of a run, new or begun, with its leaks. Nothing is written.

    Raises:
        ConfigError: there is nobody to leak.
    """
    from medtl.training.launch import going_on
    from medtl.training.plan import make_plan
    from medtl.training.preview import show_plan

    if (path / CONFIG).is_file() and (rest := going_on(Run(path), {})) is not None:
        # The split is drawn anew, as it was: the one that is written leaks already.
        own = {name: getattr(config, name) for name in ("splits", "folds", "fold", "out")}
        config = rest.model_copy(update=own)
    recorder = Recorder(silent=True)
    plan = make_plan(config, catalog, recorder)
    preview = show_plan(plan, catalog, fabric, recorder)
    return replace(preview, plan=leaking(preview.plan, leaks))


def leaking(plan: Plan, leaks: Collection[str]) -> Plan:
    """The plan with the leaks that are named; see ``LEAKS``."""
    if SELECTED_ON_TEST in leaks:
        if not plan.split.test:
            raise ConfigError(f"{SELECTED_ON_TEST}: the run has no test patient")
        train = tuple(sorted({*plan.split.train, *plan.split.val}))
        plan = replace(plan, split=Split(train=train, val=plan.split.test, test=()))
    if SEEN_BEFORE in leaks and plan.outside is not None:
        forgotten = {**plan.outside.metadata, "seen": ()}
        plan = replace(plan, outside=replace(plan.outside, metadata=forgotten))
    return plan


def _scores(
    plan: Plan, run: Run, catalog: Catalog, fabric: Fabric, leaks: Collection[str]
) -> dict[str, Any]:
    from medtl.runtime.records import read_stages

    stage = read_stages(run.path / STAGES)[-1]
    told = [LEAKS[name] for name in leaks]
    remark = plan.cohort.leak
    if remark.startswith(_LEAK):
        told.append(remark.removeprefix(_LEAK))
    notes = [remark] if remark and not remark.startswith(_LEAK) else []
    facts = {"leaks": told, "notes": notes, "synthetic": plan.cohort.synthetic}
    if SELECTED_ON_TEST in leaks:
        return {**_on_selected(plan, run, stage, catalog, fabric), **facts}
    from medtl.evaluation.scores import read_scores

    if not run.has(SUMMARY):
        return {"scores": {}, "cases": 0, **facts}
    found = read_scores(run)
    if stage not in found.summary:
        raise RunError(f"{run.path}: stage {stage} was scored on no test patient")
    return {"scores": found.summary[stage], "cases": found.data["cases"], **facts}


def _on_selected(
    plan: Plan, run: Run, stage: str, catalog: Catalog, fabric: Fabric
) -> dict[str, Any]:
    """The score on the very cases by which the weights were chosen."""
    from medtl.evaluation.evaluate import SCORES
    from medtl.inference.load import read_stage

    loaded = read_stage(run, stage, catalog, fabric)
    cases = [case for case in plan.cases(plan.stages[-1].domain, "val") if case.labelled]
    kind = SCORES[loaded.task_type.name]
    rows = kind.score(loaded.predictor, cases, Recorder(silent=True), f"scoring {stage}")
    return {"scores": kind.summarise(rows), "cases": len(cases)}
