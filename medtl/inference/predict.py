"""``medtl predict``: a folder of cases -> label maps in each case's native grid, or their classes.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightning_fabric import Fabric

from medtl.data.case import Case, Cohort
from medtl.data.cohort import open_cohort
from medtl.data.content_hash import files_of
from medtl.data.io.images import label_path, read_header, write_labels
from medtl.data.label_scheme import LabelScheme, Settled
from medtl.data.modality import Modality
from medtl.errors import DataError, RunError, shortened
from medtl.inference.classification import most_likely, write_predictions_csv
from medtl.inference.ensemble import Ensemble, read_ensemble
from medtl.inference.load import with_flips
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share, union
from medtl.runtime.files import check_apart, real_path
from medtl.runtime.leftovers import sweep
from medtl.runtime.lock import locked_output
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
    flips: bool = False,
) -> tuple[Ensemble, list[Path]]:
    """Predict every case under ``inputs`` into ``out``; returns what predicted, and the files.

    Each file is written whole. Segmentations go to ``<case>.nii.gz`` (of pictures ``.png``; odd
    characters as :func:`medtl.runtime.files.file_name` has them), classes of all cases to
    ``predictions.csv``. Of several ``runs``, or stages of runs, the mean predicts.
    """
    _ready(out, inputs)
    with _held(out, fabric):
        ensemble = read_ensemble(runs, catalog, fabric, reporter.say, reporter.warn)
        if flips:
            ensemble = Ensemble(tuple(with_flips(ensemble.members, reporter)))
        trained = ensemble.members[0]
        cohort = open_cohort(
            catalog.tasks[trained.metadata.task].load()(),
            inputs,
            reporter,
            names=trained.metadata.names,
            divided=False,
            ignored=ignored,
            labels=labels,
            required=trained.predictor.preprocessor.modalities,
            need_target=False,
        )
        return ensemble, _predict_cohort(ensemble, cohort, out, reporter)


@contextmanager
def _held(out: Path, fabric: Fabric) -> Iterator[None]:
    """Hold the output folder for all processes, or raise RunError in all of them."""
    problem = ""
    with ExitStack() as holding:
        if fabric.is_global_zero:
            try:
                holding.enter_context(locked_output(out))
            except RunError as error:
                problem = str(error)
        if problem := fabric.broadcast(problem):
            raise RunError(problem)
        yield


def _predict_cohort(
    ensemble: Ensemble, cohort: Cohort, out: Path, reporter: Reporter
) -> list[Path]:
    """Predict the cases, and write the summary."""
    if ensemble.synthetic and not cohort.synthetic:
        reporter.warn("this model was trained on the synthetic phantom alone")
    reporter.say(_what_predicts(ensemble))
    dense = ensemble.members[0].task_type.dense
    written = (write_label_maps if dense else write_classes)(ensemble, cohort, out, reporter)
    _summarise(out, len(cohort.cases), ensemble.predictors[0].fabric, reporter)
    return written


def _summarise(out: Path, cases: int, fabric: Fabric, reporter: Reporter) -> None:
    """Write the summary, with the warnings of every process."""
    for text in union(fabric, reporter.warnings):
        reporter.warn(text)
    if fabric.is_global_zero:
        write_summary(out, cases, reporter.warnings)


def _ready(out: Path, inputs: Path) -> None:
    """Check ``out`` before any work, and remove what a killed process left there."""
    if real_path(out) == real_path(inputs):
        raise RunError(f"{out} holds the input; choose another --out")
    check_writable(out)
    sweep(out)


def _what_predicts(ensemble: Ensemble) -> str:
    """``unfreeze: t1, t2 -> WT, TC``"""
    first, several = ensemble.members[0], len(ensemble.members)
    who = first.stage if several == 1 else f"mean of {several} runs"
    preprocessor = first.predictor.preprocessor
    return f"{who}: {', '.join(preprocessor.modalities)} -> {', '.join(preprocessor.regions)}"


def write_summary(out: Path, cases: int, warnings: Sequence[str]) -> None:
    """``summary.json`` with the warnings, if there are any; that of an earlier call is replaced.

    Another file of that name, as a run's, is kept.
    """
    path = out / SUMMARY
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


def write_classes(ensemble: Ensemble, cohort: Cohort, out: Path, reporter: Reporter) -> list[Path]:
    """``predictions.csv``: case, a column of probabilities per class, and the likeliest."""
    path = out / "predictions.csv"
    _report_replaced([path], reporter)
    fabric = ensemble.predictors[0].fabric
    own = share(fabric, cohort.cases)
    rows = []
    with reporter.progress("predicting", len(own)) as advance:
        predictions = ensemble.probabilities(ahead(ensemble.prepare, own))
        for done, (case, probability) in enumerate(zip(own, predictions, strict=True), 1):
            predicted = most_likely(probability)
            rows.append({"case": case.id, "probability": probability, "predicted": predicted})
            advance(done, case.id)
    rows = gather(fabric, rows, len(cohort.cases))
    if fabric.is_global_zero:
        write_predictions_csv(path, rows)
    reporter.say(f"classes of {len(rows)} case{'s' if len(rows) > 1 else ''} in {path}")
    return [path]


def write_label_maps(
    ensemble: Ensemble, cohort: Cohort, out: Path, reporter: Reporter
) -> list[Path]:
    """``<case>.nii.gz`` of every case; of pictures ``<case>.png``."""
    predictor = ensemble.predictors[0]
    regions, reference = predictor.preprocessor.regions, predictor.preprocessor.modalities[0]
    targets = _targets(cohort, reference, out)
    cohort.check_regions(regions)
    _report_replaced(targets, reporter)
    _report_others(out, targets, cohort, reporter)

    def write(predicted: tuple[Case, LabelScheme, Settled]) -> Path:
        case, scheme, settled = predicted
        header = read_header(case.images[reference])
        target = label_path(out, case.id, header)
        write_labels(target, scheme.paint(settled.masks_LIJK), header)
        return target

    cases = share(predictor.fabric, cohort.cases)
    moved: list[int] = []  # voxels of each case
    with reporter.progress("predicting", len(cases)) as advance:

        def predict_cases() -> Iterator[tuple[Case, LabelScheme, Settled]]:
            prepared = ahead(ensemble.prepare, cases)
            for done, (case, images) in enumerate(zip(cases, prepared, strict=True), 1):
                scheme = LabelScheme.of(case.regions, regions)
                settled = ensemble.masks(images, scheme)
                moved.append(max(settled.moved))
                yield case, scheme, settled
                advance(done, case.id)

        # While one case is computed, the next one is read and the one before is written.
        written = list(ahead(write, predict_cases()))
    if gone := [path.name for path in written if not path.is_file()]:
        raise RunError(f"{out}: {shortened(gone)} were removed meanwhile; predict again")
    maps = "label map" if len(cohort.cases) == 1 else "label maps"
    reporter.say(f"{len(cohort.cases)} {maps} in {out}")
    if any(moved):
        reporter.say(
            f"in {sum(map(bool, moved))} of them voxels ({max(moved)} in the worst) were predicted "
            "in regions that no label value stands for together: they have the likeliest value"
        )
    return written


def _inputs(cohort: Cohort) -> set[Path]:
    return {real_path(file.path) for case in cohort.cases for file in files_of(case)}


def _targets(cohort: Cohort, reference: Modality, out: Path) -> list[Path]:
    """Where the label map of each case goes. Raises where one would replace an input."""
    inputs_read = _inputs(cohort)
    targets = []
    for case in cohort.cases:
        if not case.regions:
            raise DataError(f"{case.id}: no label scheme is known for it; name one by --labels")
        target = label_path(out, case.id, read_header(case.images[reference]))
        if real_path(target) in inputs_read:
            raise RunError(f"{target} is an input; choose another --out")
        targets.append(target)
    check_apart(target.name for target in targets)
    return targets


def _report_replaced(targets: Sequence[Path], reporter: Reporter) -> None:
    """Report which existing files are about to be replaced."""
    existing = [target for target in targets if target.exists()]
    if existing:
        names = shortened([target.name for target in existing])
        reporter.warn(f"replacing {names} in {existing[0].parent}")


def _report_others(out: Path, targets: Sequence[Path], cohort: Cohort, reporter: Reporter) -> None:
    """Report label maps of other predictions, which stay beside those of this one."""
    known = {real_path(target) for target in targets} | _inputs(cohort)
    endings = tuple({"".join(target.suffixes[-2:]) for target in targets})
    held = sorted(out.iterdir()) if out.is_dir() else []
    others = [
        path.name
        for path in held
        if path.name.endswith(endings) and path.name[0] != "." and real_path(path) not in known
    ]
    if others:
        reporter.warn(f"{out} holds other label maps, which stay as they are: {shortened(others)}")
