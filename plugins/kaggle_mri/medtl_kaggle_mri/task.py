"""The task ``kaggle-mri``: pictures in a folder per class, whose patients are not recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.duplicates import LEAST_PICTURE, groups_of, thumbnails_of
from medtl.data.formats.class_folders import Entry, read_class_folders
from medtl.data.io.pictures import COLOURS, is_picture
from medtl.data.modality import Modality
from medtl.data.phantom import INDEX, KAGGLE, notes_of, read_index
from medtl.data.task import Advice, Task, check_no_labels
from medtl.data.tasks.classification_defaults import (
    check_every_class,
    class_defaults,
    picture_advice,
)
from medtl.data.voxel_size import Spacing
from medtl.errors import DataError, shortened
from medtl.runtime.console import Reporter

GROUPS = "groups of near-duplicates"
GROUPED, OFFICIAL = "grouped", "official"
#: Correlation that would make two pictures the same if one were less strict: a check of how much
#: the number of groups depends on it.
LOOSE = 0.9
UNKNOWN_PATIENTS = (
    "patients are unknown: n counts groups of near-duplicate pictures, and patient leakage cannot "
    "be excluded"
)
_TESTING = "testing"


class KaggleMri(Task):
    """Glioma, meningioma, pituitary tumour or none, of one picture."""

    name = "kaggle-mri"
    kind = "classification"
    regions = ("glioma", "meningioma", "no_tumor", "pituitary")
    #: ``image`` is grey; its colours, all equal, are for networks that take three channels.
    modalities = ("image", *COLOURS)
    nested = False
    exclusive = True
    phantom = KAGGLE
    protocols: Mapping[str, str] = {
        GROUPED: "all pictures are pooled, and near-duplicates stay on one side of every split",
        OFFICIAL: "Testing is the test set, as published, whatever of it is in Training, too",
    }
    defaults = class_defaults("mod:image", "head-picture")
    phantom_defaults = defaults

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
        protocol: str = GROUPED,
        reporter: Reporter | None = None,
    ) -> Cohort:
        """Read class folders, below ``Training`` and ``Testing`` or not; every picture is read
        (and remembered), as a group of near-duplicates counts as a patient.

        Raises:
            ConfigError: ``labels``, which are for segmentations.
            DataError: a folder of no known class, an empty one, a damaged picture, or the official
                protocol without a Testing folder; always naming the file.
        """
        root = Path(root)
        check_no_labels(self.name, labels)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; it should hold a folder per class")
        listing = read_class_folders(root)
        entries = listing.entries
        if need_target and not any(entry.class_name for entry in entries):
            raise DataError(f"{root}: {listing.unlabelled}; give the folder above them")
        classes = [class_of(entry, need_target) for entry in entries]
        for entry in entries:
            if not is_picture(entry.files[0]):
                raise DataError(f"{entry.files[0]}: not a picture; see task classification")
        files = [ImageFile(entry.files[0]) for entry in entries]
        thumbnails = thumbnails_of(files, reporter or Reporter(quiet=True))
        patients = _joined(entries, [group.members for group in groups_of(thumbnails)])
        loose = _joined(entries, [group.members for group in groups_of(thumbnails, LOOSE)])
        # A part of the phantom is synthetic, too.
        home = root.parent if (root.parent / INDEX).is_file() else root
        index = read_index(home)
        names = [Modality(name) for name in required or self.modalities[:1]]
        cases = tuple(
            Case(
                id=entry.id,
                patient=patient,
                images={name: _image(entry.files[0], name) for name in names},
                class_name=class_name,
                site=index.get("sites", {}).get(entry.files[0].relative_to(home).as_posix(), ""),
                part=entry.part,
                stratum=class_name,
            )
            for entry, patient, class_name in zip(entries, patients, classes, strict=True)
        )
        notes = [
            *notes_of(bool(index)),
            *listing.notes,
            f"{len(cases)} pictures in {len(set(patients))} groups, which a split keeps whole: "
            f"near-duplicates correlate by {LEAST_PICTURE:g} or more; from {LOOSE:g} on, there "
            f"would be {len(set(loose))} groups",
        ]
        cohort = Cohort(root, cases, tuple(notes), bool(index.get("synthetic")))
        return _official(cohort) if protocol == OFFICIAL else _grouped(cohort, need_target)

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: Spacing | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`; DataError where a class has no training case."""
        folder = cases[0].images[Modality(modalities[0])].path.parent.parent
        check_every_class(cases, self.regions, folder)
        names = tuple(map(Modality, modalities))
        advice = picture_advice(cases, names, self.defaults, spacing_mm, patch_size, GROUPS)
        why = "cropped to the head and blurred alike: here a file's size alone tells much"
        return replace(advice, reasons={**advice.reasons, "transforms": why})


def class_of(entry: Entry, needed: bool) -> str:
    """``glioma_tumor``, ``Glioma`` -> ``glioma``; ``notumor`` -> ``no_tumor``. DataError for names
    of no class, unless it is not ``needed``."""
    word = re.sub(r"[\W_]+", "", entry.class_name.casefold())
    word = re.sub(r"tumou?r$", "", word)
    known = {name.removesuffix("_tumor"): name for name in KaggleMri.regions}
    if word not in known and needed:
        raise DataError(
            f"{entry.where}: {entry.class_name!r} is none of the classes "
            f"{', '.join(KaggleMri.regions)}; rename the folder, or see task classification"
        )
    return known.get(word, "")


def _image(path: Path, name: Modality) -> ImageFile:
    return ImageFile(path, COLOURS.index(name) if name in COLOURS else None)


def _joined(entries: Sequence[Entry], groups: Sequence[Sequence[int]]) -> list[str]:
    """The patient of each picture: the first picture of its group."""
    first = {number: group[0] for group in groups for number in group}
    return [entries[first.get(n, n)].id for n in range(len(entries))]


def _grouped(cohort: Cohort, need_target: bool) -> Cohort:
    """Leave out groups whose pictures lie in folders of two classes, or drop their class.

    ``need_target``: they are left out.
    """
    classes: dict[str, set[str]] = {}
    for case in cohort.cases:
        classes.setdefault(case.patient, set()).update({case.class_name} - {""})
    doubtful = {case.id for case in cohort.cases if len(classes[case.patient]) > 1}
    notes = cohort.notes
    if doubtful:
        what = "left out" if need_target else "taken for unlabelled"
        lie = f"{len(doubtful)} pictures lie in folders of two classes, {what}"
        notes = (*notes, f"{lie}: {shortened(sorted(doubtful))}")
    cases = tuple(
        replace(case, class_name="", stratum="") if case.id in doubtful else case
        for case in cohort.cases
        if case.id not in doubtful or not need_target
    )
    return replace(cohort, cases=cases, notes=notes, leak=UNKNOWN_PATIENTS, counted=GROUPS)


def _official(cohort: Cohort) -> Cohort:
    """Every picture is a patient; ``leak`` says how many are in Training, too."""
    parts: dict[str, set[str]] = {}
    for case in cohort.cases:
        parts.setdefault(case.patient, set()).add(case.part)
    testing = [case for case in cohort.cases if case.part == _TESTING]
    if not testing or len(testing) == len(cohort.cases):
        raise DataError(
            f"{cohort.root}: protocol {OFFICIAL} needs the folders Training and Testing; leave it "
            "out for groups of near-duplicates"
        )
    twins = [case for case in testing if len(parts[case.patient]) > 1]
    training = {case.patient: case.id for case in cohort.cases if case.part != _TESTING}
    same = [f"{case.id} = {training[case.patient]}" for case in twins if case.patient in training]
    notes = (f"Testing pictures that are in Training, too: {shortened(same)}",) if same else ()
    return replace(
        cohort,
        notes=(*cohort.notes, *notes),
        cases=tuple(replace(case, patient=case.id) for case in cohort.cases),
        leak=f"LEAK: {len(twins)} of {len(testing)} Testing pictures are, or nearly are, pictures "
        "of Training, so these scores are too good; patients are unknown",
        test=tuple(case.id for case in testing),
        counted="cases",
        keeps_seen=True,
    )
