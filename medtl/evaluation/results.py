"""Results of a run whose stages are trained: scores, tables and figures.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from medtl.data.case import Case, Cohort
from medtl.data.cohort import region_masks
from medtl.data.domain import parse_domain, select
from medtl.data.io.geometry import axis_codes
from medtl.data.io.images import read_header, read_labels, read_volume
from medtl.data.io.pictures import is_picture
from medtl.data.label_scheme import LabelScheme
from medtl.data.splits import PARTS, Split, strata_and_sites
from medtl.evaluation.class_figures import confusion_matrix, ranking_curves, reliability_diagram
from medtl.evaluation.evaluate import SCORES, score_stages
from medtl.evaluation.figures import loss_curves, split_sizes, stage_scores
from medtl.evaluation.metrics import Row
from medtl.evaluation.montage import PICTURE_AXES, montage
from medtl.evaluation.scores import Scores
from medtl.inference.load import LoadedStage
from medtl.inference.segmentation import Segmenter
from medtl.runtime.console import Reporter
from medtl.runtime.figure_style import attempted
from medtl.runtime.records import readable_lines
from medtl.runtime.run_folder import SUMMARY, Run


def write_results(
    cohort: Cohort,
    split: Split,
    run: Run,
    stages: Sequence[LoadedStage],
    fabric: Fabric,
    reporter: Reporter,
    *,
    selected_by: str,
    drawn: bool = True,
) -> None:
    """Score every stage on the locked test cases; write summary.json, metrics.csv, figures/.

    Every process scores its share of the cases; the first one writes. A figure that cannot be drawn
    is a warning.

    Args:
        selected_by: what validation measured, for the figure of the training curves.
        drawn: False leaves the figures out.
    """
    test = [case for case in cohort.cases if case.patient in split.test]
    cases = [case for case in test if case.labelled]
    if len(cases) < len(test):
        reporter.say(f"{len(test) - len(cases)} of {len(test)} test cases have no label to score")
    trained = stages
    stages = list(_scorable(stages, cohort, {case.id for case in cases}, reporter))
    if not stages:
        if fabric.is_global_zero and drawn:
            _draw_training(cohort, split, run, trained, selected_by, reporter)
        reporter.say("no labelled test patients: nothing is scored")
        return
    scored_cohort = replace(cohort, cases=tuple(cases))
    scores = score_stages(stages, scored_cohort, cases, run, reporter, narrow=True)
    if fabric.is_global_zero:
        kind = stages[0].task_type.name
        rows = [{"stage": name, **row} for name, own in scores.by_stage.items() for row in own]
        SCORES[kind].write_rows(run.path, rows)
        if drawn:
            _draw_training(cohort, split, run, trained, selected_by, reporter)
            scored = [stage for stage in stages if stage.stage in scores.by_stage]
            FIGURES[kind](run.path / "figures", scored, cohort, scores, reporter)
        _write_scores(scores, kind, run, reporter)


def _write_scores(scores: Scores, kind: str, run: Run, reporter: Reporter) -> None:
    """Keep and show the scores; summary.json comes last: a run that has it is finished."""
    if reporter.warnings:
        scores = replace(scores, data={**scores.data, "warnings": list(reporter.warnings)})
    run.write_json(SUMMARY, scores.to_json())
    for table in scores.tables(details=False):
        reporter.show(table)
    if kind == "classification":
        reporter.say(f"Scores of each class: medtl evaluate {run.path} --details")


def _scorable(
    stages: Sequence[LoadedStage], cohort: Cohort, test: Collection[str], reporter: Reporter
) -> Iterator[LoadedStage]:
    """The stages in whose domain one of the test cases lies, by id."""
    for stage in stages:
        if any(
            case.id in test for case in select(parse_domain(stage.metadata.domain), cohort.cases)
        ):
            yield stage
        else:
            reporter.say(
                f"{stage.stage}: no labelled test case in {stage.metadata.domain}; not scored"
            )


def _draw_training(
    cohort: Cohort,
    split: Split,
    run: Run,
    stages: Sequence[LoadedStage],
    measure: str,
    reporter: Reporter,
) -> None:
    figures, synthetic = run.path / "figures", cohort.synthetic
    figures.mkdir(exist_ok=True)
    rows = {s.stage: run.path / s.stage / "metrics.jsonl" for s in stages}
    curves = {stage: readable_lines(path)[0] for stage, path in rows.items() if path.is_file()}
    path = figures / "curves.png"
    with attempted(path.name, reporter.warn):
        loss_curves(path, curves, measure=measure, synthetic=synthetic)
    sizes, path = sizes_by_stratum(split, cohort.cases), figures / "split.png"
    with attempted(path.name, reporter.warn):
        split_sizes(path, sizes, synthetic=synthetic, counted=cohort.counted)


def sizes_by_stratum(split: Split, cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """Patients per part and stratum; one with cases of several counts once, for all of them."""
    strata = {patient: stratum for patient, (stratum, _) in strata_and_sites(cases).items()}
    nameless = "none" if any(strata.values()) else "all"
    return {
        part: dict(Counter(strata[patient] or nameless for patient in getattr(split, part)))
        for part in PARTS
    }


def _of_regions(
    folder: Path,
    stages: Sequence[LoadedStage],
    cohort: Cohort,
    scores: Scores,
    reporter: Reporter,
) -> None:
    synthetic = cohort.synthetic
    path = folder / "scores.png"
    with attempted(path.name, reporter.warn):
        stage_scores(path, scores.summary, scores.by_stage, synthetic=synthetic)
    for stage in stages:
        path = folder / f"{stage.stage}.png"
        with attempted(path.name, reporter.warn):
            _picture(path, stage, cohort, scores)


def _of_classes(
    folder: Path,
    stages: Sequence[LoadedStage],
    cohort: Cohort,
    scores: Scores,
    reporter: Reporter,
) -> None:
    synthetic = cohort.synthetic
    for name in (stage.stage for stage in stages):
        summary, calibration = scores.summary[name], scores.data["calibration"][name]
        path = folder / f"confusion-{name}.png"
        with attempted(path.name, reporter.warn):
            confusion_matrix(path, name, scores.data["confusion"][name], synthetic=synthetic)
        path = folder / f"ranking-{name}.png"
        with attempted(path.name, reporter.warn):
            ranking_curves(path, name, scores.by_stage[name], summary, synthetic=synthetic)
        path = folder / f"calibration-{name}.png"
        with attempted(path.name, reporter.warn):
            reliability_diagram(path, name, calibration, summary["all"], synthetic=synthetic)


#: Figures of the scores, by the kind of task.
FIGURES = {"segmentation": _of_regions, "classification": _of_classes}


def median_case(rows: Sequence[Row], region: str) -> tuple[float, str, str]:
    """Dice and id of the case of median Dice, and among which: those with the region, if any."""
    own = [row["metrics"] | {"case": row["case"]} for row in rows if row["region"] == region]
    held = [row for row in own if row["truth_ml"] > 0]
    ranked = sorted((row["dice"], row["case"]) for row in held or own)
    among = f"test cases with {region}" if held else f"test cases, none with {region}"
    return *ranked[len(ranked) // 2], among


def _picture(path: Path, stage: LoadedStage, cohort: Cohort, scores: Scores) -> None:
    """The test case whose first scored region had the median Dice, of those that have it."""
    predictor = stage.predictor
    assert isinstance(predictor, Segmenter)
    preprocessor = predictor.preprocessor
    region = next(iter(scores.summary[stage.stage]))
    dice, name, among = median_case(scores.by_stage[stage.stage], region)
    case = next(case for case in cohort.cases if case.id == name)
    assert case.target is not None  # it was scored, hence labelled
    labels_IJK, affine = read_labels(case.target, case.labels)
    axes = axis_codes(affine)
    if is_picture(case.target.path):
        axes = PICTURE_AXES
    scheme = LabelScheme.of(case.regions, preprocessor.regions)
    masks_LIJK = predictor.masks(preprocessor(case, with_target=False), scheme).masks_LIJK
    known = [name for name in preprocessor.regions if name not in case.unannotated]
    scored = [preprocessor.regions.index(name) for name in known]
    montage(
        path,
        np.stack([read_volume(case.images[modality])[0] for modality in preprocessor.modalities]),
        preprocessor.modalities,
        region_masks(labels_IJK, case, known),
        masks_LIJK[scored] & ~np.isin(labels_IJK, case.ignored),
        known,
        title=f"{stage.stage}: {name}, {region} Dice {dice:.2f} (median of {among})",
        spacing_mm=read_header(case.target).spacing_mm,
        axes=axes,
        synthetic=cohort.synthetic,
    )
