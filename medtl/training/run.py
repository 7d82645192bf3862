"""Carry out a plan: train stage by stage, then score the locked test cases."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from lightning_fabric import Fabric

from medtl.audit.quick_look import warn_of_data
from medtl.config import ResolvedConfig, kept_settings, trains_target_alone, write_config
from medtl.data.case import Case
from medtl.data.content_hash import (
    check_content,
    check_unchanged,
    contents_of,
    fingerprint,
    image_fingerprint,
)
from medtl.data.modality import Modality, are_colours
from medtl.data.run_inputs import check_inputs, inputs_of
from medtl.data.same_images import shared_images
from medtl.data.splits import write_splits
from medtl.errors import DamagedRunError, DataError, Interrupted, RunError, shortened
from medtl.evaluation.results import write_results
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Advance, Reporter
from medtl.runtime.device import precision_name, processes_here
from medtl.runtime.files import from_home, portable
from medtl.runtime.leftovers import sweep
from medtl.runtime.lock import locked
from medtl.runtime.parallel import in_threads
from medtl.runtime.records import Inputs
from medtl.runtime.run_folder import (
    CONFIG,
    ENVIRONMENT,
    INPUTS,
    SPLITS,
    STAGES,
    STARTED,
    Run,
    environment,
    start_run,
)
from medtl.runtime.signals import Interruption, watching
from medtl.training.plan import Plan
from medtl.training.samples.loader import worker_failure
from medtl.training.samples.prepared import choose_cache, choose_workers
from medtl.training.trainer import LAST, Trainer, legs
from medtl.transfer.imagenet import IMAGENET
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B, carried_over
from medtl.transfer.weights import BEST

#: What each stage of a finished run holds.
KEPT = (BEST, LAST)


def run_plan(
    plan: Plan,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    out: Path | Run | None,
    *,
    profile: bool = False,
) -> Run:
    """Train every stage, then score each on the locked test cases and write the run's results.

    Args:
        out: the folder of a new run (None: a numbered one), or the unfinished run to go on with.
        profile: measure where the time of the first stage's steps goes.

    Raises:
        Interrupted: a signal came; the run can be resumed.
    """
    started = perf_counter()
    _announce(plan, reporter, new=not isinstance(out, Run))
    weights = plan.outside.path if plan.outside else None
    with fabric.rank_zero_first():  # the others find what it remembered
        if fabric.is_global_zero:
            _warn_of_data(plan, reporter)
        plan, hashes = without_seen(plan, reporter)
        used = used_cases(plan)
        contents = contents_of(used)
        _warn_of_copies(used, contents, reporter)
        inputs = inputs_of(used, contents, weights)
    if isinstance(out, Run):
        check_inputs(out, used, inputs, weights)
    cache = choose_cache(plan.memory_bytes(), plan.config.cache, fabric.world_size)
    reporter.say(f"prepared cases are kept in {cache}")
    with open_folder(plan, fabric, out, inputs) as run, resumable(run, reporter) as interruption:
        trainer = Trainer(
            plan=plan,
            run=run,
            catalog=catalog,
            fabric=fabric,
            reporter=reporter,
            cache=cache,
            workers=_workers(plan, fabric),
            seen=hashes,
            contents=contents,
            interruption=interruption,
            profile=profile,
        )
        trained = []
        for leg in legs(plan.stages, run):
            trained.append(trainer.train_stage(leg))
        check_unchanged(used, contents)
        by = plan.selected_by
        run.check_there()
        write_results(
            *(plan.cohort, plan.split, run, trained, fabric, reporter),
            selected_by=by,
            drawn=plan.config.figures,
        )
        fabric.barrier()
    if fabric.is_global_zero:
        check_whole(run, [stage.name for stage in plan.stages])
    reporter.say(f"done in {perf_counter() - started:.0f} s: {run.path}")
    return run


def _announce(plan: Plan, reporter: Reporter, *, new: bool) -> None:
    if (overlap := _unknown_overlap(plan)) is not None:
        reporter.warn(overlap)
    for line in _notes(plan, new=new):
        reporter.say(line)
    reporter.say("reading every image once: what was trained on is kept out of the test")


def _workers(plan: Plan, fabric: Fabric) -> int:
    """The processes that make batches: as asked, or as suits the machine."""
    asked = plan.config.workers
    return choose_workers(fabric.device.type, processes_here(fabric)) if asked is None else asked


def check_whole(run: Run, stages: Sequence[str]) -> None:
    """Raise RunError if a file of a run that has just ended is gone: somebody removed it."""
    files = [CONFIG, SPLITS, *(str(Path(name) / file) for name in stages for file in KEPT)]
    gone = [name for name in files if not run.has(name)]
    if gone:
        raise RunError(
            f"{run.path}: {shortened(gone)} were removed while the run was working; train anew"
        )


def _unknown_overlap(plan: Plan) -> str | None:
    """What is unknown of the weights of ``--init``; None where they say it."""
    outside = plan.outside
    if outside is None or outside.seen or plan.config.init == IMAGENET:
        return None
    return f"{outside.path} does not say what it was trained on: overlap is unknown"


def _notes(plan: Plan, *, new: bool) -> Iterator[str]:
    """What the weights of ``--init`` do not say, and what a new run without controls cannot."""
    outside, config = plan.outside, plan.config
    if outside is not None and config.with_control and not plan.request.init_steps:
        yield (
            f"{outside.path} does not say how many steps it was trained for: control A only, no "
            "control B"
        )
    if new and not config.with_control and carried_over(plan.stages):
        yield "no controls: whether the transfer helps is not asked; --with-control asks it"


@contextmanager
def open_folder(
    plan: Plan, fabric: Fabric, out: Path | Run | None, inputs: Inputs
) -> Iterator[Run]:
    """The run that all processes work on.

    The first process makes the folder, or removes leftovers from it, and locks it.
    """
    path = ""
    with ExitStack() as holding:
        if fabric.is_global_zero:
            if isinstance(out, Run):
                run = out
                holding.enter_context(locked(run.path))
                sweep(run.path, deep=True, unmarked=True)
            else:
                run = start_run(plan.config.task, plan.config.strategy, out)
                holding.enter_context(locked(run.path))
                try:
                    write_start(plan, run, fabric, inputs)
                except RunError:
                    for name in STARTED:  # so that the same command can be given again
                        (run.path / name).unlink(missing_ok=True)
                    raise
            path = str(run.path)
        yield Run(Path(fabric.broadcast(path)))


@contextmanager
def resumable(run: Run, reporter: Reporter) -> Iterator[Interruption]:
    """Add to an interruption, or to an error of data or run, how to resume the run."""
    hint = f"go on with: medtl train --resume {run.path}"
    with watching() as interruption:
        try:
            yield interruption
        except (Interrupted, KeyboardInterrupt) as reason:
            if interruption.requeue_job():
                reporter.say("SLURM queues the job again")
            raise Interrupted(f"{str(reason) or 'stopped'}; {hint}") from None
        except DamagedRunError:  # nothing goes on with it
            raise
        except (DataError, RunError) as problem:
            raise type(problem)(f"{problem}; then {hint}") from problem
        except (OSError, RuntimeError) as problem:
            refused = worker_failure(problem)
            if refused is None:
                raise
            raise RunError(f"{refused}; then {hint}") from problem


def without_seen(plan: Plan, reporter: Reporter) -> tuple[Plan, tuple[str, ...]]:
    """The plan without test patients that ``--init`` has seen, and the hashes seen from now on.

    Reads the images of every patient, so that a damaged one is refused before training starts.
    """
    sides = plan.trained_on, plan.split.test
    train, test = ([c for c in plan.cohort.cases if c.patient in side] for side in sides)
    needed = {name for stage in plan.stages for name in stage.domain.modalities}
    cases = [*train, *test]
    with reporter.progress("reading images", len(cases)) as advance:
        read = fingerprints(cases, needed, advance)
    _warn_of_same_channels(cases, needed, reporter)
    own, found = read[: len(train)], read[len(train) :]
    hashes = {value for values in own for value in values}
    hashes -= _of_several(cases, read, needed)
    shared = [case for case, values in zip(test, found, strict=True) if hashes & {*values}]
    _check_shared(plan, shared, train, reporter)
    outside = plan.outside
    seen = outside.seen if outside else frozenset()
    pairs = zip(test, found, strict=True)
    known = {case.patient for case, values in pairs if seen & set(values)}
    every = tuple(sorted(hashes | seen))
    if outside is None or not known:
        return plan, every
    kept = tuple(patient for patient in plan.split.test if patient not in known)
    if not kept:
        raise DataError(
            f"{outside.path} was trained on every test patient; choose others with --test-cases"
        )
    reporter.say(
        f"{len(known)} test {plan.cohort.counted} left out: {outside.path} was trained on them"
    )
    return replace(plan, split=replace(plan.split, test=kept)), every


def _warn_of_same_channels(
    cases: Sequence[Case], needed: Collection[Modality], reporter: Reporter
) -> None:
    """Warn of cases that have one image as several modalities."""
    if are_colours(needed):
        return
    same = []
    for case in cases:
        own = [image_fingerprint(case.images[m]) for m in needed if m in case.images]
        if len(set(own)) < len(own):
            same.append(case.id)
    if same:
        reporter.warn(
            f"{len(same)} of {len(cases)} cases have the same image as several modalities; check "
            f"the files of {shortened(same)}"
        )


def _warn_of_data(plan: Plan, reporter: Reporter) -> None:
    needed = dict.fromkeys(name for stage in plan.stages for name in stage.domain.modalities)
    where = str(plan.config.data or plan.cohort.root)
    grouped = plan.config.groups is not None
    used = used_cases(plan)
    warn_of_data(used, list(needed), plan.split.test, where, reporter, grouped=grouped)


def _warn_of_copies(
    cases: Sequence[Case], contents: Mapping[Path, str], reporter: Reporter
) -> None:
    """Warn of cases with an image whose file is a copy of the label map."""
    same = [
        case.id
        for case in cases
        if case.target
        and contents[case.target.path] in {contents[file.path] for file in case.images.values()}
    ]
    if same:
        reporter.warn(
            f"{len(same)} of {len(cases)} cases have a copy of their label map as an image; check "
            f"the files of {shortened(same)}"
        )


def used_cases(plan: Plan) -> list[Case]:
    """The cases of the patients that the plan trains on, validates with or tests on."""
    patients = {*plan.trained_on, *plan.split.test}
    return [case for case in plan.cohort.cases if case.patient in patients]


def _of_several(
    cases: Sequence[Case], hashes: Sequence[tuple[str, ...]], needed: Collection[Modality]
) -> set[str]:
    """Hashes of images that several patients have, such as an atlas: they tell no patient.

    Not those of ``needed`` modalities, as these are trained on.
    """
    owners: dict[str, set[str]] = {}
    for case, values in zip(cases, hashes, strict=True):
        for value in values:
            owners.setdefault(value, set()).add(case.patient)
    several = {value for value, patients in owners.items() if len(patients) > 1}
    if several:
        for case in cases:
            several -= {image_fingerprint(case.images[m]) for m in needed if m in case.images}
    return several


def _check_shared(
    plan: Plan, shared: Sequence[Case], train: Sequence[Case], reporter: Reporter
) -> None:
    """Tell of test cases that hold an image of training patients, before anything is trained.

    Raises:
        DataError: none would be left to score.
    """
    cohort, patients = plan.cohort, {case.patient for case in shared}
    if not shared or cohort.keeps_seen:
        return
    same = shortened(shared_images(shared, train))
    if patients >= set(plan.split.test):
        raise DataError(
            f"{cohort.root}: every test patient has an image that is trained on, too ({same}); "
            "give both the same patient, or leave one out"
        )
    reporter.warn(
        f"{cohort.root}: {len(patients)} test {cohort.counted} will not be scored, as training "
        f"holds the same images: {same}"
    )


def fingerprints(
    cases: Sequence[Case], needed: Collection[Modality], advance: Advance
) -> list[tuple[str, ...]]:
    """Content hashes of each case's images, read in parallel and kept between runs.

    Raises DataError for damaged images, and for constant ones of the ``needed`` modalities.
    """

    def checked(case: Case) -> tuple[str, ...]:
        check_content(case, needed)
        return fingerprint(case)

    return in_threads(checked, cases, advance, threads=2)


def write_start(plan: Plan, run: Run, fabric: Fabric, inputs: Inputs) -> None:
    """Write split, stages, hashes and all settings, resolved, before the first step.

    The settings come last: a folder that holds them can be resumed.
    """
    resolved = resolved_config(plan).model_copy(update={"precision": precision_name(fabric)})
    write_splits(run.path / SPLITS, plan.split, plan.cohort.cases)
    names = [s.name for s in plan.stages if s.name not in (CONTROL_A, CONTROL_B)]
    run.write_json(STAGES, names)
    run.write_json(INPUTS, inputs.model_dump(mode="json"))
    run.write_json(ENVIRONMENT, {**environment(), "settings": kept_settings(resolved)})
    write_config(run.path / CONFIG, resolved)


def resolved_config(plan: Plan) -> ResolvedConfig:
    """The plan's settings with every choice in them, so that they can be run again."""
    config, request, preset = plan.config, plan.request, plan.preset
    init, imagenet = config.init, config.init == IMAGENET
    visited = {domain for stage in plan.stages for domain in stage.domains()}
    # One domain may be both, without a strategy that takes a source.
    trained_on_source = request.source in visited and not trains_target_alone(config)
    return config.model_copy(
        update={
            "steps": request.steps,
            "minutes": None,  # they have chosen the steps
            "batch_size": request.batch_size,
            "lr": request.rate,
            "network": plan.network,
            "loss": request.losses[0].name,
            "transforms": preset.name,
            "spacing_mm": None if preset.fits else preset.spacing_mm,
            "patch_size": plan.patch_size,
            "src": str(request.source) if trained_on_source else None,
            "dst": str(request.target),
            "data": Path(portable(config.data)) if config.data else None,
            "splits": Path(portable(config.splits)) if config.splits else None,
            "groups": Path(portable(config.groups)) if config.groups else None,
            "init": portable(from_home(init)) if init and not imagenet else init,
            "weights": Path(portable(plan.outside.path)) if plan.outside and imagenet else None,
            "out": None,  # so that the same settings can be run again
        }
    )
