"""Label maps of cases in their own grids; of studies in DICOM, SEG files as well.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from medtl.data.label_scheme import LabelScheme
from medtl.data.one_grid import on_one_grid
from medtl.errors import DataError, RunError, shortened
from medtl.inference.ensemble import Ensemble, Prepared
from medtl.inference.label_map import LabelMap
from medtl.inference.maps import PROBABILITIES, UNCERTAINTY, Maps
from medtl.inference.outputs import (
    USUAL,
    Attempts,
    Options,
    Predicted,
    Shard,
    check_own,
    read_volumes,
    write_manifest,
    write_volumes,
)
from medtl.inference.profile import PAINT, READ, WRITE, Profile
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
    options: Options = USUAL,
    profile: Profile | None = None,
) -> Predicted:
    """``<case>.nii.gz`` of every case; of pictures ``<case>.png``; of DICOM ``<case>.dcm``, too.

    A case that cannot be read is reported, and the others go on.

    Args:
        model: what predicts, for the files beside the label maps.
        profile: takes the time of each part of the work.

    Raises:
        DataError: none can be read.
    """
    job, shard = _Job(ensemble, out, model, reporter, options, profile or Profile()), options.shard
    cohort.check_regions(job.preprocessor.regions)
    cases = shard.take(cohort.cases)
    targets = _targets(cases, job.reference, cohort, out)
    check_own(out / shard.named(VOLUMES))
    there: list[Case] = []
    if options.skip_existing:
        cases, targets, there = _without_existing(cases, targets, job.fabric, reporter)
    _report_replaced(targets, reporter)
    _report_maps(out, options, bool(there), reporter)
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
    options: Options
    profile: Profile

    @property
    def fabric(self) -> Fabric:
        fabric: Fabric = self.ensemble.predictors[0].fabric
        return fabric

    @property
    def preprocessor(self) -> Preprocessor:
        preprocessor: Preprocessor = self.ensemble.predictors[0].preprocessor
        return preprocessor

    def reference(self, case: Case) -> Path:
        """The image on whose grid the label map is written."""
        names = [*self.ensemble.modalities, *case.images]
        return next(case.images[name].path for name in names if name in case.images)

    def predict(self, cases: Sequence[Case]) -> list[_Written]:
        """Predict the cases and write their files, in order."""
        attempts = Attempts(self.reporter)
        regions = self.preprocessor.regions
        with self.reporter.progress("predicting", len(cases)) as advance:

            def paint() -> Iterator[tuple[Case, Header, LabelMap, Maps | None]]:
                prepared = attempts.usable(ahead(attempts.attempt(self._prepare), cases))
                for done, (case, (header, images)) in enumerate(self.profile.waiting(prepared), 1):
                    scheme, maps = LabelScheme.of(case.regions, regions), self._maps(images)
                    with self.profile.span(PAINT):
                        watch = None if maps is None else maps.add
                        found = self.ensemble.label_map(images, scheme, watch)
                    yield case, header, found, maps
                    advance(done, case.id)

            # While one case is computed, the next one is read and the one before is written.
            written = {each.case: each for each in ahead(self._write, paint())}
        lost = {name: _Written(name, problem=str(e)) for name, e in attempts.failed.items()}
        return [(written | lost)[case.id] for case in cases]

    def _prepare(self, case: Case) -> tuple[Header, Prepared]:
        register = self.options.register
        with self.profile.span(READ):
            present = self.ensemble.present(case, self.reporter.warn)
            case, moved = on_one_grid(case, present, register=register)
            if moved and register:
                self.reporter.say(f"{case.id}: {moved}")
            elif moved:
                self.reporter.warn(f"{case.id}: {moved}; they were not registered (--register)")
            return read_header(case.images[present[0]]), self.ensemble.prepare(case)

    def _maps(self, images: Prepared) -> Maps | None:
        """What collects probabilities and uncertainty; None where nobody asked for them."""
        options, segmenter = self.options, self.ensemble.predictors[0]
        if not (options.probabilities or options.uncertainty):
            return None
        return Maps(
            self.out,
            self.ensemble.placement(images),
            self.preprocessor.regions,
            segmenter.softmax,
            options.probabilities,
            options.uncertainty,
        )

    def _write(self, predicted: tuple[Case, Header, LabelMap, Maps | None]) -> _Written:
        case, header, found, maps = predicted
        path = label_path(self.out, case.id, header.path)
        with self.profile.span(WRITE):
            more = [] if case.slices is None else self._write_seg(case, case.slices, found)
            more += [] if maps is None else maps.write(self.out, case.id, header)
            write_labels(path, found.label_IJK, header)  # last: the case is done
        regions, ml = self.preprocessor.regions, voxel_ml(header)
        volumes = {name: n * ml for name, n in zip(regions, found.voxels, strict=True)}
        return _Written(case.id, (path, *more), volumes, max(found.moved))

    def _write_seg(self, case: Case, slices: Stack, found: LabelMap) -> list[Path]:
        """The SEG file of a case from DICOM; none where all regions are empty, or with a warning
        where its header allows none."""
        from medtl.data.dicom.seg import write_seg

        path, regions = self.out / f"{file_name(case.id)}.dcm", self.preprocessor.regions
        try:
            values_of = {name: found.values_of(name) for name in regions}
            written = write_seg(path, found.label_IJK, values_of, slices, self.model)
        except DataError as error:
            told = f"{case.id}: no DICOM SEG"
            self.reporter.warn(f"{told}: {error}", kept=told)
            written = False
        if not written:
            path.unlink(missing_ok=True)  # of an earlier prediction
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
        file = ImageFile(label_path(self.out, case.id, self.reference(case)))
        counts, header = label_counts(file), read_header(file)
        return {
            region: sum(counts.get(value, 0) for value in case.regions[region]) * voxel_ml(header)
            for region in self.preprocessor.regions
        }


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


#: The image of a case on whose grid its label map is written.
Reference = Callable[[Case], Path]


def _targets(cases: Sequence[Case], reference: Reference, cohort: Cohort, out: Path) -> list[Path]:
    """Where the label map of each case goes. Raises where one would replace an input."""
    inputs_read = _inputs(cohort)
    targets = []
    for case in cases:
        if not case.regions:
            raise DataError(f"{case.id}: no label scheme is known for it; name one by --labels")
        target = label_path(out, case.id, reference(case))
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


def _report_maps(out: Path, options: Options, skipped: bool, reporter: Reporter) -> None:
    """Report maps of other predictions, and what is not made of cases that are there already."""
    for name, wanted in (
        (PROBABILITIES, options.probabilities),
        (UNCERTAINTY, options.uncertainty),
    ):
        if not wanted and (out / name).is_dir():
            reporter.warn(f"{out / name} is of another prediction, and stays as it is")
        if wanted and skipped:
            reporter.warn(f"no {name} is written for the label maps that are there already")


def _report_others(out: Path, cohort: Cohort, reference: Reference, reporter: Reporter) -> None:
    """Report label maps of other predictions, which stay beside those of this one."""
    targets = [label_path(out, case.id, reference(case)) for case in cohort.cases]
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
