"""``medtl evaluate``: the stages of a run, scored on cases that their training did not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medtl.config import TrainConfig, read_config
from medtl.data.case import Case, Cohort
from medtl.data.cohort import open_cohort
from medtl.data.content_hash import fingerprint
from medtl.data.domain import Domain, parse_domain, select
from medtl.data.modality import parse_series
from medtl.data.splits import read_run_fold
from medtl.errors import ConfigError, DataError, RunError, shortened
from medtl.evaluation import classification, segmentation
from medtl.evaluation.controls import against_controls
from medtl.evaluation.metrics import Row
from medtl.evaluation.missing_modalities import subset_dice, summarise_subsets
from medtl.evaluation.scores import Scores, flat
from medtl.inference.load import LoadedStage, finished_stages, read_stage, with_flips
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import union
from medtl.runtime.files import real_path
from medtl.runtime.run_folder import CONFIG, SPLITS, Run
from medtl.transforms.preprocessor import Preprocessor

#: Modules that offer the same functions, by the type of task.
SCORES: Mapping[str, Any] = {"segmentation": segmentation, "classification": classification}


def unseen(cases: Sequence[Case], stages: Sequence[LoadedStage]) -> tuple[tuple[Case, ...], int]:
    """The cases of patients that no stage was trained on, and the number of other cases."""
    seen = frozenset().union(*(stage.metadata.seen for stage in stages))
    known = {case.patient for case in cases if seen & set(fingerprint(case))}
    kept = tuple(case for case in cases if case.patient not in known)
    return kept, len(cases) - len(kept)


def pick_cases(cohort: Cohort, run: Run, wanted: str, reporter: Reporter) -> tuple[Case, ...]:
    """ "test": the run's locked test cases, by id; "all": every case. Warns of missing ones."""
    if wanted == "all":
        return cohort.cases
    locked = set(test_ids(run))
    test = tuple(case for case in cohort.cases if case.id in locked)
    lost = sorted(locked - {case.id for case in test})
    if not test:
        raise DataError(
            f"{cohort.root} holds none of the test cases of {run.path}; use --cases all"
        )
    if lost:
        reporter.warn(
            f"{len(lost)} of {len(locked)} test cases of run {run.path} are not in {cohort.root}, "
            f"so they are left out: {shortened(lost)}"
        )
    return test


def test_ids(run: Run) -> list[str]:
    """The locked test cases that the run's ``splits.json`` names."""
    fold = read_run_fold(run.path / SPLITS)
    if fold.test is None:
        raise RunError(f"{run.path / SPLITS} names no test cases; it is damaged")
    return list(fold.test)


def score_stages(
    stages: Sequence[LoadedStage],
    cohort: Cohort,
    cases: Sequence[Case],
    run: Run,
    reporter: Reporter,
    *,
    narrow: bool,
    missing_modalities: bool = False,
) -> Scores:
    """Score each stage on its own modalities; cases that any stage was trained on are left out.

    ``narrow``: also keep to the sites or part of the stage's domain, as in its own cohort.
    ``missing_modalities``: also score every subset of the stage's modalities.
    """
    kind = stages[0].task_type
    scores = SCORES[kind.name]
    if missing_modalities and not kind.dense:
        raise ConfigError("--missing-modalities is for segmentation; this run classifies; drop it")
    for stage in stages:
        scores.check_cohort(cohort, stage.predictor.preprocessor.regions)
        if kind.dense and (how := segmentation.defined_otherwise(cohort, stage.metadata)):
            reporter.warn(how)
    kept, seen = _without_seen(cases, stages, cohort, reporter)
    data: dict[str, Any] = _facts(stages, cohort, kept, run, seen)
    rows, missing = {}, {}
    extra = (subset_dice,) if missing_modalities else ()
    for stage, own in _with_cases(stages, kept, reporter, narrow=narrow):
        name, predictor = stage.stage, stage.predictor
        found = scores.score(predictor, own, reporter, f"scoring {name}", *extra)
        _check_scored(found, stage, cohort)
        rows[name] = found
        for fact, detail in scores.details(predictor, found).items():
            data.setdefault(fact, {})[name] = detail
        if missing_modalities:
            missing[name] = _of_subsets(found, predictor.preprocessor)
    summary = {name: scores.summarise(found) for name, found in rows.items()}
    paired = {name: scores.by_patient(found) for name, found in rows.items()}
    found_by = scores.found_by_patient
    found = {name: found_by(own) for name, own in rows.items()} if found_by else None
    gain = against_controls(scores.COMPARED_BY, paired, found)
    if gain:
        data["against_controls"] = gain
    if data["trained_on_synthetic"] and not data["synthetic"]:
        reporter.warn("these models were trained on the synthetic phantom only")
    for text in union(stages[0].predictor.fabric, reporter.warnings):
        reporter.warn(text)
    if reporter.warnings:
        data["warnings"] = list(reporter.warnings)
    return Scores(data, summary, flat(rows), missing, rows)


def _check_scored(rows: Sequence[Row], stage: LoadedStage, cohort: Cohort) -> None:
    """Raises DataError for a stage none of whose outputs anybody looked for."""
    if not rows:
        regions = ", ".join(stage.predictor.preprocessor.regions)
        raise DataError(
            f"{cohort.root}: nobody looked for {regions} in the test cases, so stage "
            f"{stage.stage} cannot be scored; test others"
        )


def _of_subsets(rows: Sequence[Row], preprocessor: Preprocessor) -> dict[str, Any]:
    """The scores with modalities missing, and how often training was without some."""
    dropout = preprocessor.preset.augmentation.modality_dropout
    dice = summarise_subsets(rows, preprocessor.modalities)
    return {"modality_dropout": dropout, "dice": dice}


def _facts(
    stages: Sequence[LoadedStage],
    cohort: Cohort,
    cases: Sequence[Case],
    run: Run,
    seen: Mapping[str, int],
) -> dict[str, Any]:
    """What is scored, for ``summary.json``."""
    return {
        "synthetic": cohort.synthetic,
        "trained_on_synthetic": any(stage.metadata.synthetic for stage in stages),
        "patients": len({case.patient for case in cases}),
        "cases": len(cases),
        **seen,
        "leak": cohort.leak,
        "unit": "pixel" if cohort.pixels else "mm",  # of every length
        "flips": any(stage.predictor.flips for stage in stages),
        "run": run.path.name,
    }


def _with_cases(
    stages: Sequence[LoadedStage], cases: Sequence[Case], reporter: Reporter, *, narrow: bool
) -> Iterator[tuple[LoadedStage, Sequence[Case]]]:
    """Each stage that has cases to score, with these cases."""
    for stage in stages:
        own = _of_domain(parse_domain(stage.metadata.domain), cases) if narrow else cases
        if own:
            yield stage, own
        else:
            reporter.say(
                f"{stage.stage}: no test case in its domain {stage.metadata.domain}; not scored"
            )


def _of_domain(domain: Domain, cases: Sequence[Case]) -> Sequence[Case]:
    """The cases of a domain; a site of it need not have a test case."""
    there = {case.site.casefold() for case in cases}
    sites = tuple(site for site in domain.sites if site.casefold() in there)
    if domain.sites and not sites:
        return ()
    return select(replace(domain, sites=sites), cases)


def _without_seen(
    cases: Sequence[Case], stages: Sequence[LoadedStage], cohort: Cohort, reporter: Reporter
) -> tuple[tuple[Case, ...], dict[str, int]]:
    """The cases to score, and how many cases of the training were left out and kept."""
    kept, dropped = unseen(cases, stages)
    known = {case.id for case in kept}
    again = {case.id for case in cases if case.patient in cohort.test} - known
    if cohort.keeps_seen:
        reporter.say(f"{len(again)} test cases were seen in training (same images): kept")
        kept, dropped = tuple(c for c in cases if c.id in known | again), dropped - len(again)
    if dropped:
        reporter.say(f"{dropped} of {len(cases)} cases left out: seen in training (same images)")
    if not kept:
        raise DataError(f"{cohort.root}: every case was seen in training; give others by --data")
    return kept, {"excluded_seen": dropped, "kept_seen": len(again) if cohort.keeps_seen else 0}


def is_own(data: Path | None, config: TrainConfig) -> bool:
    """Whether the cases to score are those of the run's own data."""
    return data is None or (config.data is not None and real_path(data) == real_path(config.data))


def evaluate(
    run: Run,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    *,
    data: Path | None = None,
    stage: str | None = None,
    cases: str | None = None,
    labels: str | None = None,
    ignored: Sequence[str] = (),
    series: Sequence[str] = (),
    flips: bool = False,
    missing_modalities: bool = False,
) -> Scores:
    """Score the finished stages of a run, or one of them.

    ``data``: a folder of labelled cases; None: the run's own. ``cases``: "test", the run's locked
    ones, or "all"; None: "test" of its own data, all of others. ``ignored``: columns of a table.
    ``series``: of DICOM, ``MODALITY=DESCRIPTION`` each.
    """
    if cases not in (None, "all", "test"):
        raise ConfigError(f"--cases {cases}: use all or test")
    config = read_config(run.path / CONFIG)
    stages = _read_stages(run, stage, catalog, fabric, reporter)
    if flips:
        stages = with_flips(stages, reporter)
    needed = {name for each in stages for name in each.predictor.preprocessor.modalities}
    own = is_own(data, config)
    scheme = labels or (config.labels if own else None)
    cohort = open_cohort(
        catalog.tasks[config.task].load()(),
        data or config.data,
        reporter,
        config.protocol if own else None,
        names=stages[0].metadata.names,
        ignored=ignored or (config.ignore_column or () if own else ()),
        series=parse_series(series) or (config.series if own else None),
        labels=scheme,
        required=sorted(needed),
    )
    picked = pick_cases(cohort, run, cases or ("test" if own else "all"), reporter)
    return score_stages(
        stages, cohort, picked, run, reporter, narrow=own, missing_modalities=missing_modalities
    )


def _read_stages(
    run: Run, stage: str | None, catalog: Catalog, fabric: Fabric, reporter: Reporter
) -> list[LoadedStage]:
    names = (stage,) if stage else finished_stages(run)
    if not names:
        raise RunError(f"{run.path} has no finished stage; let medtl train end first")
    tell, warn = reporter.say, reporter.warn
    return [read_stage(run, name, catalog, fabric, tell, warn) for name in names]
