"""Studies from Python: ``medtl compare`` as a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medtl.api.settings import Where, path_or_none, plain
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder
from medtl.runtime.files import from_home

if TYPE_CHECKING:
    from medtl.study.compare import Study
    from medtl.study.features.representation_results import Similarity
    from medtl.study.features.transfer_results import Transferability
    from medtl.study.finished.result import FinishedComparison
    from medtl.study.power import PowerPlan
    from medtl.study.recipes.run import RecipeResult


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
    leave_site_out: bool | None = None,
    skip: Sequence[str] | None = None,
    margin: float | None = None,
    target: float | None = None,
    primary: Mapping[str, Any] | None = None,
    tune: int | None = None,
    storage: str | None = None,
    out: Where | None = None,
    jobs: int = 1,
    executor: str = "local",
    slurm: Mapping[str, Any] | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Any,
) -> Study:
    """Compare transfer strategies with controls from scratch on the same splits.

    A study that was begun in ``out`` is gone on with; nothing is trained twice. Of one that is
    finished, ``api.compare(out=...)`` reads what it found.

    Args:
        config: a YAML file of the study, over which what is given here goes.
        strategies: names, or ``{"strategy": ..., "name": ..., "settings": {...}}``.
        inits: weights to start from, instead of training on the source.
        budgets: labelled target patients: numbers, shares below 1, ``"all"``. They are nested.
        seeds: runs of each arm.
        folds: folds that test each patient once; None: one test set.
        leave_site_out: every site is the target in turn, without its labels; all other sites
            together are the source. The result is in ``Study.sites``.
        skip: of the arms that are added: ``"zero-shot"``, ``"joint"``, ``"control-b"``.
        margin: the largest difference that does not matter.
        target: the validation score to count steps to; None: that of control A at each budget.
        primary: the comparison that the study is made for: strategy, budget, output.
        tune: trials of each arm, which choose its rate on validation patients.
        storage: URL of a database that holds the trials, for several machines; None: a file in the
            study.
        jobs: runs at once.
        executor: ``"local"``, in processes; ``"slurm"``, in jobs.
        slurm: options of the jobs: partition, time (in minutes), mem, gpus_per_node, cpus_per_task
            and other parameters of ``submitit.SlurmExecutor``.
        settings: those of :func:`medtl.api.train`, the same for all arms.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the study began.
        Interrupted: a signal came; the same call goes on.
    """
    from medtl.study.compare import compare as carry_out
    from medtl.study.config import resolve_study
    from medtl.study.executors import choose_executor
    from medtl.study.folder import begun_file

    given = {
        "task": task,
        "strategies": strategies,
        "networks": networks,
        "inits": [str(init) for init in inits] if inits else None,
        "budgets": budgets,
        "seeds": seeds,
        "folds": folds,
        "split_seed": split_seed,
        "leave_site_out": leave_site_out,
        "skip": skip,
        "margin": margin,
        "target": target,
        "primary": primary,
        "tune": tune,
        "settings": plain(settings),
    }
    if catalog is not None and (jobs != 1 or executor != "local"):
        raise ConfigError("catalog: other processes have no components of this one; drop jobs")
    place = path_or_none(out)
    file = path_or_none(config) or (None if task else begun_file(place))
    study = resolve_study(file, given)
    reporter, catalog = Recorder(silent=not verbose), catalog or load_catalog()
    execute = choose_executor(executor, catalog, jobs=jobs, slurm=slurm or {})
    return carry_out(study, place, catalog, reporter, execute, storage)


def compare_runs(runs: Sequence[Where], *, margin: float | None = None) -> FinishedComparison:
    """Compare finished runs that share their test patients; nothing is trained.

    Runs that differ in seed or fold alone are one arm; the arm of the first run is the reference.

    Args:
        margin: the largest difference that does not matter.

    Raises:
        ConfigError: there are no two arms of one task.
        RunError: a run is not finished, or test sets overlap in part.
    """
    from medtl.study.finished.comparison import compare_runs as compare_finished

    return compare_finished([from_home(run) for run in runs], margin=margin)


def plan_power(
    study: Where, *, difference: float | None = None, width: float | None = None
) -> PowerPlan:
    """How many test patients and seeds the next study needs, from the scores of a finished one.

    Args:
        difference: what has to be found with a power of 80%; None: the study's margin, or else half
            of ``width``.
        width: of a 95% interval, from low to high; None: twice the difference.

    Raises:
        ConfigError: neither is given, and the study has no margin.
        DataError: the study has one run per arm, so that training noise is unknown.
    """
    from medtl.study.folder import open_study
    from medtl.study.power import plan_power as planned

    return planned(open_study(from_home(study)), difference, width)


def similarity(
    study: Where,
    *,
    cases: int = 20,
    device: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Similarity:
    """How alike the arms of a study represent the same test images, block by block.

    Debiased linear CKA, SVCCA and PWCCA between each arm and its start, control A, and itself with
    another seed. No label is read. The result is also written into the study.

    Args:
        cases: the most test images.
    """
    from medtl.study.ask import similarity_of
    from medtl.study.folder import open_study

    folder, reporter = open_study(from_home(study)), Recorder(silent=not verbose)
    return similarity_of(folder, catalog or load_catalog(), device, reporter, cases=cases)


def transferability(
    study: Where, *, device: str = "auto", verbose: bool = False, catalog: Catalog | None = None
) -> Transferability:
    """What the source's features tell of the target's training cases before training on them.

    LogME, H-score, LEEP and NCE. With three sources or more, how well they rank the arms that were
    trained. No test label is read. The result is also written into the study.
    """
    from medtl.study.ask import transferability_of
    from medtl.study.folder import open_study

    folder, reporter = open_study(from_home(study)), Recorder(silent=not verbose)
    return transferability_of(folder, catalog or load_catalog(), device, reporter)


def run_recipe(
    config: Where,
    *,
    quick: bool = False,
    data: Where | None = None,
    out: Where | None = None,
    jobs: int = 1,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Any,
) -> RecipeResult:
    """Carry out a published study as it was published, and soundly.

    A recipe that was begun in ``out`` is gone on with; nothing is trained twice.

    Args:
        config: the recipe, a YAML file.
        quick: its settings for a run within a minute, on phantoms.
        data: the folder that holds the folders of the recipe's sets; None: phantoms.
        jobs: runs of the sound study at once.
        settings: those of :func:`medtl.api.train`, over those of every part.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the recipe began.
        Interrupted: a signal came; the same call goes on.
    """
    from medtl.study.executors import choose_executor
    from medtl.study.recipes.folder import folder_for
    from medtl.study.recipes.resolve import resolve_recipe
    from medtl.study.recipes.run import run_recipe as carry_out

    if catalog is not None and jobs != 1:
        raise ConfigError("catalog: other processes have no components of this one; drop jobs")
    file = from_home(config)
    recipe = resolve_recipe(file, quick=quick, given={**plain(settings), "data": data})
    reporter, catalog = Recorder(silent=not verbose), catalog or load_catalog()
    execute = choose_executor("local", catalog, jobs=jobs, slurm={})
    return carry_out(
        recipe, path_or_none(out) or folder_for(file, quick), catalog, reporter, execute
    )
