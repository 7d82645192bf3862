"""``medtl predict``: a folder of cases -> label maps in each case's native grid, or their classes.

A case that cannot be read is reported, and the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning_fabric import Fabric

from medtl.data.case import Case, Cohort
from medtl.data.cohort import open_cohort
from medtl.data.modality import parse_series
from medtl.errors import ConfigError, DataError, RunError
from medtl.inference.classification import most_likely, write_predictions_csv
from medtl.inference.ensemble import Ensemble, Prepared, read_ensemble
from medtl.inference.label_maps import write_label_maps
from medtl.inference.load import with_flips
from medtl.inference.maps import PROBABILITIES, UNCERTAINTY
from medtl.inference.outputs import ALL, USUAL, Attempts, Options, Predicted, Shard
from medtl.inference.profile import START, Profile
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share, union
from medtl.runtime.files import real_path
from medtl.runtime.leftovers import sweep
from medtl.runtime.lock import LOCK, locked_output
from medtl.runtime.parallel import ahead
from medtl.runtime.run_folder import SUMMARY, check_writable, write_text


def predict(
    runs: Sequence[str],
    inputs: Path,
    out: Path,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    *,
    labels: str | None = None,
    ignored: Sequence[str] = (),
    series: Sequence[str] = (),
    flips: bool = False,
    options: Options = USUAL,
) -> tuple[Ensemble, Predicted]:
    """Predict every case under ``inputs`` into ``out``; returns what predicted, and the files.

    Each file is written whole. Segmentations go to ``<case>.nii.gz`` (of pictures ``.png``; odd
    characters as :func:`medtl.runtime.files.file_name` has them), classes of all cases to
    ``predictions.csv``. Of several ``runs``, or stages of runs, the mean predicts.
    """
    _ready(out, inputs)
    profile, shard = Profile(), options.shard
    with _held(out, fabric, shard):
        ensemble = read_ensemble(runs, catalog, fabric, reporter.say, reporter.warn)
        if flips:
            ensemble = Ensemble(tuple(with_flips(ensemble.members, reporter)))
        trained = ensemble.members[0].metadata
        cohort = _cases(
            ensemble,
            task=catalog.tasks[trained.task].load()(),
            data=inputs,
            reporter=reporter,
            names=trained.names,
            divided=False,
            ignored=ignored,
            series=parse_series(series),
            own_grids=options.register,  # they are moved from there, and interpolated once
            labels=labels,
            required=ensemble.modalities,
            need_target=False,
        )
        if ensemble.synthetic and not cohort.synthetic:
            reporter.warn("this model was trained on the synthetic phantom alone")
        reporter.say(_what_predicts(ensemble))
        profile.seconds[START] = perf_counter() - profile.began
        if ensemble.members[0].task_type.dense:
            for predictor in ensemble.predictors if options.profile else ():
                profile.watch(predictor.network.module)
            model = f"{ensemble.members[0].metadata.task}, {_who(ensemble)}"
            done = write_label_maps(
                ensemble, cohort, out, reporter, model=model, options=options, profile=profile
            )
        else:
            _refuse_for_classes(options)
            done = write_classes(ensemble, cohort, out, reporter, shard=shard)
        count = len(shard.take(cohort.cases)) - len(done.failed.keys() - cohort.failed.keys())
        if options.profile:
            reporter.say(profile.table().plain())
        _summarise(out / shard.named(SUMMARY), count, fabric, reporter)
        return ensemble, done


def _cases(ensemble: Ensemble, **options: Any) -> Cohort:
    """The cases; one that lacks modalities is reported when it is predicted."""
    may_lack, needed = ensemble.takes_missing, set(ensemble.modalities)
    try:
        return open_cohort(**options, whole_studies=not may_lack)
    except DataError as error:
        try:
            cohort = open_cohort(**options, partial=True)
        except DataError:
            raise error from None
        if may_lack or any(case.images.keys() >= needed for case in cohort.cases):
            return _with_images(cohort, options["reporter"])
        raise error


def _with_images(cohort: Cohort, reporter: Reporter) -> Cohort:
    """Without the cases that have no image at all. Raises DataError if none is left."""
    failed = {case.id: f"{case.id}: it has no image" for case in cohort.cases if not case.images}
    kept = tuple(case for case in cohort.cases if case.images)
    if not kept:
        raise DataError(next(iter(failed.values())))
    for why in failed.values():
        reporter.warn(f"left out: {why}")
    return replace(cohort, cases=kept, failed={**cohort.failed, **failed})


@contextmanager
def _held(out: Path, fabric: Fabric, shard: Shard) -> Iterator[None]:
    """Hold the output folder for all processes, or raise RunError in all of them."""
    problem = ""
    with ExitStack() as holding:
        if fabric.is_global_zero:
            try:
                holding.enter_context(locked_output(out, shard.named(LOCK)))
            except RunError as error:
                problem = str(error)
        if problem := fabric.broadcast(problem):
            raise RunError(problem)
        yield


def _refuse_for_classes(options: Options) -> None:
    """Refuse options of segmentation for a run that tells classes."""
    for each in fields(options):
        if each.name != "shard" and getattr(options, each.name):
            option = f"--{each.name.replace('_', '-')}"
            raise ConfigError(f"{option} is for segmentation; this run tells classes; drop it")


def _summarise(path: Path, cases: int, fabric: Fabric, reporter: Reporter) -> None:
    """Write the summary, with the warnings of every process."""
    for text in union(fabric, reporter.warnings):
        reporter.warn(text)
    if fabric.is_global_zero:
        write_summary(path, cases, reporter.warnings)


def _ready(out: Path, inputs: Path) -> None:
    """Check ``out`` before any work, and remove what a killed process left there."""
    if real_path(out) == real_path(inputs):
        raise RunError(f"{out} holds the input; choose another --out")
    check_writable(out)
    sweep(out)
    for part in (PROBABILITIES, UNCERTAINTY):
        sweep(out / part, deep=True)


def _what_predicts(ensemble: Ensemble) -> str:
    """``unfreeze: t1, t2 -> WT, TC``"""
    regions = ensemble.members[0].predictor.preprocessor.regions
    shown, found = (", ".join(names) for names in (ensemble.modalities, regions))
    return f"{_who(ensemble)}: {shown} -> {found}"


def _who(ensemble: Ensemble) -> str:
    several = len(ensemble.members)
    return ensemble.members[0].stage if several == 1 else f"mean of {several} runs"


def write_summary(path: Path, cases: int, warnings: Sequence[str]) -> None:
    """``summary.json`` with the warnings, if there are any; that of an earlier call is replaced.

    Another file of that name, as a run's, is kept.
    """
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return
        if not isinstance(earlier, dict) or set(earlier) != {"predicted_cases", "warnings"}:
            return
    if warnings or path.is_file():
        body = {"predicted_cases": cases, "warnings": list(warnings)}
        write_text(path, json.dumps(body, indent=2) + "\n")


def write_classes(
    ensemble: Ensemble, cohort: Cohort, out: Path, reporter: Reporter, *, shard: Shard = ALL
) -> Predicted:
    """``predictions.csv``: case, a column of probabilities per class, and the likeliest.

    A case that cannot be read is reported, and the others go on.

    Raises:
        DataError: none can be read.
    """
    path = out / shard.named("predictions.csv")
    if path.exists():
        reporter.warn(f"replacing {path.name} in {path.parent}")
    fabric = ensemble.predictors[0].fabric
    cases = shard.take(cohort.cases)
    own = share(fabric, cases)
    attempts, kept = Attempts(reporter), list[Case]()
    rows: dict[str, dict[str, Any]] = {}

    def prepare(case: Case) -> Prepared:
        ensemble.present(case, reporter.warn)
        return ensemble.prepare(case)

    def prepared() -> Iterator[Prepared]:
        for case, images in attempts.usable(ahead(attempts.attempt(prepare), own)):
            kept.append(case)
            yield images

    with reporter.progress("predicting", len(own)) as advance:
        for done, probability in enumerate(ensemble.probabilities(prepared()), 1):
            name = kept[done - 1].id
            predicted = most_likely(probability)
            rows[name] = {"case": name, "probability": probability, "predicted": predicted}
            advance(done, name)
    problems = {name: str(error) for name, error in attempts.failed.items()}
    found = gather(fabric, [rows.get(case.id, problems.get(case.id)) for case in own], len(cases))
    failed = {c.id: row for c, row in zip(cases, found, strict=True) if isinstance(row, str)}
    if failed and len(failed) == len(cases):
        raise DataError(next(iter(failed.values())))
    every = [row for row in found if isinstance(row, dict)]
    if fabric.is_global_zero:
        write_predictions_csv(path, every)
    reporter.say(f"classes of {len(every)} case{'s' if len(every) > 1 else ''} in {path}")
    return Predicted((path,), {**failed, **cohort.failed})
