"""Label maps of cases in their own grids; of studies in DICOM, SEG files as well.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share
from medtl.runtime.files import check_apart, file_name, real_path
from medtl.runtime.parallel import ahead
from medtl.transforms.preprocessor import Preprocessor

if TYPE_CHECKING:
    from medtl.data.dicom.stacks import Stack

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
    job = _Job(ensemble, out, model, reporter, register)
    cohort.check_regions(job.preprocessor.regions)
    cases = shard.take(cohort.cases)
    targets = _targets(cases, job.reference, cohort, out)
    check_own(out / shard.named(VOLUMES))
    there: list[Case] = []
    if skip_existing:
        cases, targets, there = _without_existing(cases, targets, job.fabric, reporter)
    _report_replaced(targets, reporter)
    _report_others(out, cohort, job.reference, reporter)
    found = gather(job.fabric, job.predict(share(job.fabric, cases)), len(cases))
    failed = {each.case: each.problem for each in found if each.volumes_ml is None}
    if failed and len(failed) == len(found) and not there:
        raise DataError(next(iter(failed.values())))
    failed |= cohort.failed
    written = [each for each in found if each.volumes_ml is not None]
    _check_kept(out, written)
    if job.fabric.is_global_zero and (written or there):
        job.write_tables(written, there, failed, shard)
    _report_written(written, out, reporter)
    return Predicted(tuple(each.files[0] for each in written), failed)


@dataclass(frozen=True, slots=True)
class _Job:
    """What predicts, and where its files go."""

    ensemble: Ensemble
    out: Path
    model: str
    reporter: Reporter
    register: bool

    @property
    def fabric(self) -> Fabric:
        fabric: Fabric = self.ensemble.predictors[0].fabric
        return fabric

    @property
    def preprocessor(self) -> Preprocessor:
        preprocessor: Preprocessor = self.ensemble.predictors[0].preprocessor
        return preprocessor

    @property
    def reference(self) -> Modality:
        """The image on whose grid label maps are written."""
        return self.preprocessor.modalities[0]

    def predict(self, cases: Sequence[Case]) -> list[_Written]:
        """Predict the cases and write their files, in order."""
        attempts = Attempts(self.reporter)
        regions = self.preprocessor.regions
        with self.reporter.progress("predicting", len(cases)) as advance:

            def settle() -> Iterator[tuple[Case, Header, LabelScheme, Settled]]:
                prepared = attempts.usable(ahead(attempts.attempt(self._prepare), cases))
                for done, (case, (header, images)) in enumerate(prepared, 1):
                    scheme = LabelScheme.of(case.regions, regions)
                    yield case, header, scheme, self.ensemble.masks(images, scheme)
                    advance(done, case.id)

            # While one case is computed, the next one is read and the one before is written.
            written = {each.case: each for each in ahead(self._write, settle())}
        lost = {name: _Written(name, problem=str(e)) for name, e in attempts.failed.items()}
        return [(written | lost)[case.id] for case in cases]

    def _prepare(self, case: Case) -> tuple[Header, Prepared]:
        modalities = self.preprocessor.modalities
        case, moved = on_one_grid(case, modalities, register=self.register)
        if moved and self.register:
            self.reporter.say(f"{case.id}: {moved}")
        elif moved:
            self.reporter.warn(f"{case.id}: {moved}; they were not registered (--register)")
        return read_header(case.images[self.reference]), self.ensemble.prepare(case)

    def _write(self, predicted: tuple[Case, Header, LabelScheme, Settled]) -> _Written:
        case, header, scheme, settled = predicted
        path = label_path(self.out, case.id, header.path)
        more = [] if case.slices is None else self._write_seg(case, case.slices, settled)
        write_labels(path, scheme.paint(settled.masks_LIJK), header)  # last: the case is done
        volumes = volumes_ml(settled, self.preprocessor.regions, header)
        return _Written(case.id, (path, *more), volumes, max(settled.moved))

    def _write_seg(self, case: Case, slices: Stack, settled: Settled) -> list[Path]:
        """The SEG file of a case from DICOM; none where all regions are empty, or with a
        warning."""
        from medtl.data.dicom.seg import write_seg

        path, regions = self.out / f"{file_name(case.id)}.dcm", self.preprocessor.regions
        try:
            written = write_seg(path, settled.masks_LIJK, regions, slices, self.model)
        except DataError as error:
            self.reporter.warn(f"{case.id}: no DICOM SEG: {error}")
            return []
        return [path] if written else []

    def write_tables(
        self,
        written: Sequence[_Written],
        there: Sequence[Case],
        failed: Mapping[str, str],
        shard: Shard,
    ) -> None:
        """The volumes and the manifest; of cases that were there already, too."""
        table = self.out / shard.named(VOLUMES)
        known = read_volumes(table)
        volumes = {case.id: self._volumes_of(case) for case in there if case.id not in known}
        volumes |= {each.case: each.volumes_ml or {} for each in written}
        write_volumes(table, volumes)
        files = {each.case: each.files for each in written}
        write_manifest(self.out / shard.named(MANIFEST), files, failed, self.model)

    def _volumes_of(self, case: Case) -> dict[str, float]:
        """The volumes of a label map that is there already."""
        file = ImageFile(label_path(self.out, case.id, case.images[self.reference].path))
        counts, header = label_counts(file), read_header(file)
        return {
            region: sum(counts.get(value, 0) for value in case.regions[region]) * voxel_ml(header)
            for region in self.preprocessor.regions
        }


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
