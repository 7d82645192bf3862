"""The tasks on TCGA slices: is there a glioma, and where; names say patient and hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.modality import Modality
from medtl.data.phantom import LGG, notes_of, read_index
from medtl.data.task import Advice, Defaults, Task, check_no_labels
from medtl.data.tasks.classification_defaults import (
    check_every_class,
    class_defaults,
    picture_advice,
)
from medtl.data.voxel_size import Spacing
from medtl.errors import DataError, shortened
from medtl.runtime.console import Reporter
from medtl_lgg_mri.slices import MODALITIES, OUTSIDE, TUMOR, Slice, find_slices, stand_ins

PATIENTS, HOSPITALS, SLICES = "patients", "hospitals", "slices"
NO_TUMOR, WITH_TUMOR = "no_tumor", "tumor"
LEAK = (
    "LEAK: slices of a patient lie on both sides of the split, so these scores are too good; n "
    "counts slices, not patients"
)
_EVERY = "mod:" + "+".join(MODALITIES)


class _Slices(Task):
    """What both tasks share: reading, patients, hospitals and protocols."""

    name: ClassVar[str]
    kind: ClassVar[str]
    modalities = MODALITIES
    nested = False
    exclusive = True
    phantom = LGG
    protocols: Mapping[str, str] = {
        PATIENTS: "all slices of a patient are on one side of every split",
        HOSPITALS: "the test patients are those of one hospital, named by --fold",
        SLICES: "slices are divided, whoever they are of, as is often published",
    }

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
        protocol: str = PATIENTS,
        reporter: Reporter | None = None,
    ) -> Cohort:
        """Read the slices below ``root``; those in which a modality is empty are left out.

        Raises:
            ConfigError: ``labels``, as the masks have none but tumor.
            DataError: no slices, none with a mask, names that say no patient, protocol hospitals
                with one hospital alone, or a damaged file; always naming the file.
        """
        root = Path(root)
        check_no_labels(self.name, labels)
        index = read_index(root)
        notes = notes_of(bool(index))
        every = find_slices(root, reporter or Reporter(quiet=True))
        slices = [picture for picture in every if picture.mask or not need_target]
        if not slices:
            raise DataError(f"{root}: no slice has a mask; they can be predicted, not trained on")
        if len(slices) < len(every):
            notes.append(f"{len(every) - len(slices)} slices without a mask were left out")
        wanted = {Modality(name) for name in required or MODALITIES}
        empty = [picture.id for picture in slices if wanted & set(picture.empty)]
        if empty:
            notes.append(f"{len(empty)} slices with an empty modality left out: {shortened(empty)}")
        slices = [picture for picture in slices if not wanted & set(picture.empty)]
        if not slices:
            raise DataError(f"{root}: a modality is empty in every slice; choose others by --dst")
        cases = tuple(map(self._case, slices))
        patients = {case.patient for case in cases}
        whose = f"{len(patients)} patient{'s' if len(patients) > 1 else ''}"
        notes += [f"{len(cases)} slices of {whose}", *stand_ins(slices)]
        cohort = Cohort(root, cases, tuple(notes), bool(index.get("synthetic")), pixels=True)
        if protocol == HOSPITALS:
            return _by_hospital(cohort)
        return _by_slice(cohort) if protocol == SLICES else cohort

    def _case(self, picture: Slice) -> Case:
        raise NotImplementedError


class LggMri(_Slices):
    """Whether a slice shows a glioma: its mask is not empty."""

    name = "lgg-mri"
    kind = "classification"
    regions = (NO_TUMOR, WITH_TUMOR)
    defaults = class_defaults(_EVERY)
    phantom_defaults = defaults

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: Spacing | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`; DataError where a class has no training case."""
        names = tuple(map(Modality, modalities))
        check_every_class(cases, self.regions, cases[0].images[names[0]].path.parent.parent)
        return picture_advice(cases, names, self.defaults, spacing_mm, patch_size)

    def _case(self, picture: Slice) -> Case:
        name = "" if picture.mask is None else WITH_TUMOR if picture.tumor else NO_TUMOR
        mask = ImageFile(picture.mask) if picture.mask else None
        return replace(_bare(picture), class_name=name, stratum=name, mask=mask)


class LggMriSegmentation(_Slices):
    """Where a slice shows a glioma; pixels count as 1 mm, as their size is not recorded,
    and tables state distances in pixels."""

    name = "lgg-mri-seg"
    kind = "segmentation"
    regions = (WITH_TUMOR,)
    #: ``unet`` takes more than three times as many steps to leave the background alone.
    defaults = Defaults(
        src=_EVERY,
        dst=_EVERY,
        network="basic-unet",
        transforms="picture",
        patch_size=(128, 128),
        batch_size=16,
        strategy="scratch",
    )
    phantom_defaults = replace(defaults, patch_size=(64, 64), steps=400)

    def _case(self, picture: Slice) -> Case:
        return replace(
            _bare(picture),
            target=ImageFile(picture.mask) if picture.mask else None,
            regions={WITH_TUMOR: (TUMOR,)},
            labels=(OUTSIDE, TUMOR),
        )


def _bare(picture: Slice) -> Case:
    images = {name: ImageFile(picture.path, n) for n, name in enumerate(MODALITIES)}
    return Case(id=picture.id, patient=picture.patient, images=images, site=picture.site)


def _by_hospital(cohort: Cohort) -> Cohort:
    """Each hospital is a fold."""
    sites = sorted({case.site for case in cohort.cases})
    if len(sites) < 2:
        raise DataError(f"{cohort.root}: has hospital {sites[0]} alone; choose another --protocol")
    counted = {site: len({c.patient for c in cohort.cases if c.site == site}) for site in sites}
    return replace(
        cohort,
        cases=tuple(replace(case, fold=sites.index(case.site)) for case in cohort.cases),
        folds=", ".join(f"{n} {site} ({counted[site]})" for n, site in enumerate(sites))
        + "; each is a hospital (its patients)",
    )


def _by_slice(cohort: Cohort) -> Cohort:
    cases = tuple(replace(case, patient=case.id) for case in cohort.cases)
    return replace(cohort, cases=cases, leak=LEAK, counted="cases")
