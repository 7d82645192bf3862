"""Label maps of cases in their own grids; of studies in DICOM, SEG files as well.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.content_hash import files_of
from medtl.data.io.geometry import Header
from medtl.data.io.images import label_path, read_header, write_labels
from medtl.data.io.nifti import label_counts
from medtl.data.label_scheme import LabelScheme, Settled
from medtl.data.modality import Modality
from medtl.data.one_grid import on_one_grid
from medtl.errors import DataError, RunError, shortened
from medtl.inference.ensemble import Ensemble, Prepared
from medtl.inference.outputs import (
    ALL,
    Attempts,
    Predicted,
    Shard,
    check_own,
    read_volumes,
    write_manifest,
    write_volumes,
)
from medtl.inference.segmentation import Segmenter
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share
from medtl.runtime.files import check_apart, file_name, real_path
from medtl.runtime.parallel import ahead

#: Beside the label maps.
VOLUMES, MANIFEST = "volumes.csv", "manifest.json"


@dataclass(frozen=True, slots=True)
class _Written:
    """What came of a case; ``volumes_ml`` is None where it failed."""

    case: str
    files: tuple[Path, ...] = ()
    volumes_ml: dict[str, float] | None = None
    moved: int = 0  #: voxels that no label value stands for as they were predicted
    problem: str = ""


def write_label_maps(
    ensemble: Ensemble,
    cohort: Cohort,
    out: Path,
    reporter: Reporter,
    *,
    model: str = "",
    shard: Shard = ALL,
    skip_existing: bool = False,
    register: bool = False,
) -> Predicted:
    """``<case>.nii.gz`` of every case; of pictures ``<case>.png``; of DICOM ``<case>.dcm``, too.

    A case that cannot be read is reported, and the others go on.

    Args:
        model: what predicts, for the files beside the label maps.
        register: move the images of a case onto one of them first.

    Raises:
        DataError: none can be read.
    """
    predictor = ensemble.predictors[0]
    cohort.check_regions(predictor.preprocessor.regions)
    cases = shard.take(cohort.cases)
    reference = predictor.preprocessor.modalities[0]
    targets = _targets(cases, reference, cohort, out)
    check_own(out / shard.named(VOLUMES))
    there: list[Case] = []
    if skip_existing:
        cases, targets, there = _without_existing(cases, targets, predictor.fabric, reporter)
    _report_replaced(targets, reporter)
    _report_others(out, cohort, reference, reporter)
    own = share(predictor.fabric, cases)
    found = gather(
        predictor.fabric, _predict(ensemble, own, out, model, reporter, register), len(cases)
    )
    failed = {each.case: each.problem for each in found if each.volumes_ml is None}
    if failed and len(failed) == len(found) and not there:
        raise DataError(next(iter(failed.values())))
    failed |= cohort.failed
    written = [each for each in found if each.volumes_ml is not None]
    _check_kept(out, written)
    if predictor.fabric.is_global_zero and (written or there):
        known = read_volumes(out / shard.named(VOLUMES))
        lacking = [case for case in there if case.id not in known]
        volumes = {case.id: _volumes_of(case, predictor, reference, out) for case in lacking}
        volumes |= {each.case: each.volumes_ml or {} for each in written}
        write_volumes(out / shard.named(VOLUMES), volumes)
        files = {each.case: each.files for each in written}
        write_manifest(out / shard.named(MANIFEST), files, failed, model)
    _report_written(written, out, reporter)
    return Predicted(tuple(each.files[0] for each in written), failed)


def _predict(
    ensemble: Ensemble,
    cases: Sequence[Case],
    out: Path,
    model: str,
    reporter: Reporter,
    register: bool,
) -> list[_Written]:
    """Predict the cases and write their files, in order."""
    attempts = Attempts(reporter)
    regions = ensemble.predictors[0].preprocessor.regions
    reference = ensemble.predictors[0].preprocessor.modalities[0]
    modalities = ensemble.predictors[0].preprocessor.modalities

    def prepare(case: Case) -> tuple[Header, Prepared]:
        case, moved = on_one_grid(case, modalities, register=register)
        if moved and register:
            reporter.say(f"{case.id}: {moved}")
        elif moved:
            reporter.warn(f"{case.id}: {moved}; they were not registered (--register)")
        return read_header(case.images[reference]), ensemble.prepare(case)

    def write(predicted: tuple[Case, Header, LabelScheme, Settled]) -> _Written:
        case, header, scheme, settled = predicted
        files = [label_path(out, case.id, header.path)]
        if case.slices is not None:
            files += _write_seg(out, case, regions, settled, model, reporter)
        write_labels(files[0], scheme.paint(settled.masks_LIJK), header)  # last: the case is done
        return _Written(
            case.id, tuple(files), volumes_ml(settled, regions, header), max(settled.moved)
        )

    with reporter.progress("predicting", len(cases)) as advance:

        def settle() -> Iterator[tuple[Case, Header, LabelScheme, Settled]]:
            prepared = attempts.usable(ahead(attempts.attempt(prepare), cases))
            for done, (case, (header, images)) in enumerate(prepared, 1):
                scheme = LabelScheme.of(case.regions, regions)
                yield case, header, scheme, ensemble.masks(images, scheme)
                advance(done, case.id)

        # While one case is computed, the next one is read and the one before is written.
        written = {each.case: each for each in ahead(write, settle())}
    lost = {name: _Written(name, problem=str(e)) for name, e in attempts.failed.items()}
    return [(written | lost)[case.id] for case in cases]


def _write_seg(
    out: Path,
    case: Case,
    regions: Sequence[str],
    settled: Settled,
    model: str,
    reporter: Reporter,
) -> list[Path]:
    """The SEG file of a case from DICOM; none where every region is empty, or with a warning."""
    from medtl.data.dicom.seg import write_seg

    path = out / f"{file_name(case.id)}.dcm"
    assert case.slices is not None
    try:
        written = write_seg(path, settled.masks_LIJK, regions, case.slices, model)
    except DataError as error:
        reporter.warn(f"{case.id}: no DICOM SEG: {error}")
        return []
    return [path] if written else []


def volumes_ml(settled: Settled, regions: Sequence[str], header: Header) -> dict[str, float]:
    """The volume of each region in millilitres."""
    voxels = settled.masks_LIJK.sum(axis=(1, 2, 3))
    return {n: float(count) * voxel_ml(header) for n, count in zip(regions, voxels, strict=True)}


def voxel_ml(header: Header) -> float:
    """The volume of a voxel in millilitres."""
    return abs(float(np.linalg.det(header.affine[:3, :3]))) / 1000


def _check_kept(out: Path, written: Sequence[_Written]) -> None:
    gone = [each.files[0].name for each in written if not each.files[0].is_file()]
    if gone:
        raise RunError(f"{out}: {shortened(gone)} were removed meanwhile; predict again")


def _report_written(written: Sequence[_Written], out: Path, reporter: Reporter) -> None:
    maps = "label map" if len(written) == 1 else "label maps"
    reporter.say(f"{len(written)} {maps} in {out}")
    moved = [each.moved for each in written if each.moved]
    if moved:
        reporter.say(
            f"in {len(moved)} of them voxels ({max(moved)} in the worst) were predicted "
            "in regions that no label value stands for together: they have the likeliest value"
        )


def _inputs(cohort: Cohort) -> set[Path]:
    return {real_path(file.path) for case in cohort.cases for file in files_of(case)}


def _targets(cases: Sequence[Case], reference: Modality, cohort: Cohort, out: Path) -> list[Path]:
    """Where the label map of each case goes. Raises where one would replace an input."""
    inputs_read = _inputs(cohort)
    targets = []
    for case in cases:
        if not case.regions:
            raise DataError(f"{case.id}: no label scheme is known for it; name one by --labels")
        target = label_path(out, case.id, case.images[reference].path)
        if real_path(target) in inputs_read:
            raise RunError(f"{target} is an input; choose another --out")
        targets.append(target)
    check_apart(target.name for target in targets)
    return targets


def _without_existing(
    cases: Sequence[Case], targets: Sequence[Path], fabric: Fabric, reporter: Reporter
) -> tuple[list[Case], list[Path], list[Case]]:
    """The cases that have no label map yet, and those that have one.

    Files are written whole, so those that exist are. The first process looks for all.
    """
    exists = [target.is_file() for target in targets]
    if fabric.world_size > 1:
        exists = fabric.broadcast(exists)
    there = [case for case, done in zip(cases, exists, strict=True) if done]
    if there:
        reporter.say(f"--skip-existing: {len(there)} of {len(cases)} are there already")
    left = [(c, t) for c, t, done in zip(cases, targets, exists, strict=True) if not done]
    return [case for case, _ in left], [target for _, target in left], there


def _volumes_of(
    case: Case, predictor: Segmenter, reference: Modality, out: Path
) -> dict[str, float]:
    """The volumes of a label map that is there already."""
    file = ImageFile(label_path(out, case.id, case.images[reference].path))
    counts, header = label_counts(file), read_header(file)
    return {
        region: sum(counts.get(value, 0) for value in case.regions[region]) * voxel_ml(header)
        for region in predictor.preprocessor.regions
    }


def _report_replaced(targets: Sequence[Path], reporter: Reporter) -> None:
    """Report which existing files are about to be replaced."""
    existing = [target for target in targets if target.exists()]
    if existing:
        names = shortened([target.name for target in existing])
        reporter.warn(f"replacing {names} in {existing[0].parent}")


def _report_others(out: Path, cohort: Cohort, reference: Modality, reporter: Reporter) -> None:
    """Report label maps of other predictions, which stay beside those of this one."""
    targets = [label_path(out, case.id, case.images[reference].path) for case in cohort.cases]
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
