"""Studies from Python: ``medtl compare`` as a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medtl.api.settings import Where, path_or_none, plain
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder

if TYPE_CHECKING:
    from medtl.study.compare import Study


def compare(
    task: str | None = None,
    *,
    config: Where | None = None,
    strategies: Sequence[str | Mapping[str, Any]] | None = None,
    networks: Sequence[str] | None = None,
    inits: Sequence[Where] | None = None,
    budgets: Sequence[float | str] | None = None,
    seeds: int | None = None,
    folds: int | None = None,
    split_seed: int | None = None,
    skip: Sequence[str] | None = None,
    margin: float | None = None,
    primary: Mapping[str, Any] | None = None,
    out: Where | None = None,
    jobs: int = 1,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Any,
) -> Study:
    """Compare transfer strategies with controls from scratch on the same splits.

    A study that was begun in ``out`` is gone on with; nothing is trained twice.

    Args:
        config: a YAML file of the study, over which what is given here goes.
        strategies: names, or ``{"strategy": ..., "name": ..., "settings": {...}}``.
        inits: weights to start from, instead of training on the source.
        budgets: labelled target patients: numbers, shares below 1, ``"all"``. They are nested.
        seeds: runs of each arm.
        folds: folds that test each patient once; None: one test set.
        skip: of the arms that are added: ``"zero-shot"``, ``"joint"``, ``"control-b"``.
        margin: the largest difference that does not matter.
        primary: the comparison that the study is made for: strategy, budget, output.
        jobs: runs at once, each in a process of its own.
        settings: those of :func:`medtl.api.train`, the same for all arms.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the study began.
        Interrupted: a signal came; the same call goes on.
    """
    from medtl.study.compare import compare as carry_out
    from medtl.study.config import resolve_study

    given = {
        "task": task,
        "strategies": strategies,
        "networks": networks,
        "inits": [str(init) for init in inits] if inits else None,
        "budgets": budgets,
        "seeds": seeds,
        "folds": folds,
        "split_seed": split_seed,
        "skip": skip,
        "margin": margin,
        "primary": primary,
        "settings": plain(settings),
    }
    study = resolve_study(path_or_none(config), given)
    reporter = Recorder(silent=not verbose)
    return carry_out(study, path_or_none(out), catalog or load_catalog(), reporter, jobs=jobs)
