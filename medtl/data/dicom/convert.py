"""Studies in DICOM -> NIfTI files in the cache, all images of a study on one grid.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl.data import one_grid
from medtl.data.case import Cohort
from medtl.data.dicom.files import close_archives
from medtl.data.dicom.joined import Kept, Naming, join_studies, settled
from medtl.data.dicom.label_maps import (
    LabelMaps,
    Segmented,
    check_known,
    counted_regions,
    keep_segments,
    kept_segments,
)
from medtl.data.dicom.pixels import read_stack
from medtl.data.dicom.series import find_series
from medtl.data.dicom.stacks import thinned
from medtl.data.dicom.study import Chosen, Study, read_studies, usual_contrasts
from medtl.data.io.geometry import Header, same_grid
from medtl.data.io.nifti import write_nifti
from medtl.data.io.resample_onto import resample_onto
from medtl.data.modality import CANONICAL, Modality
from medtl.errors import DataError, shortened
from medtl.runtime.cache import cache_dir, content_of, key_of
from medtl.runtime.files import new_folder

#: What is looked for where nothing says which modalities are needed.
_EVERY = (*CANONICAL, "ct", "pet")


@dataclass(frozen=True, slots=True)
class Converted:
    """The folder of NIfTI files, the studies in it, notes for the user, and what failed."""

    folder: Path  #: or the file in it that lists the images
    studies: tuple[Study, ...]
    notes: tuple[str, ...]
    failed: Mapping[str, str]  #: study -> why it is not in the folder
    unread: tuple[str, ...] = ()  #: files that are no image, and why
    #: study -> why its segmentation is not used
    unlabelled: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> tuple[str, ...]:
        """The notes, with a warning of what is not read, which names no file."""
        count = len(self.unread)
        lost = f"warning: {count} file{'s are' if count > 1 else ' is'} not read (medtl data info)"
        return (*self.notes, lost) if count else self.notes

    def placed(self, cohort: Cohort) -> Cohort:
        """The cases of the folder with their patients, and the slices on whose grid they lie."""
        known = {study.id: study for study in self.studies}
        cases = tuple(
            replace(
                case,
                patient=known[case.id].patient,
                slices=reference_of(known[case.id]).stack,
            )
            for case in cohort.cases
        )
        return replace(cohort, cases=cases, failed=self.failed)


def convert_studies(
    root: Path,
    wanted: Sequence[str] | None,
    channels: Sequence[str],
    naming: Naming,
    named: Mapping[str, str] | None = None,
    *,
    whole: bool = True,
    listing: str = "",
    labels: LabelMaps | None = None,
    own_grids: bool = False,
) -> Converted:
    """Write the ``wanted`` images of every study below ``root``, once; later calls find them.

    A study that lacks one, or cannot be read, is left out, and the others go on.

    Args:
        wanted: None: every contrast that is found; with ``whole`` those of
            :func:`~medtl.data.dicom.study.usual_contrasts`. They are the channels, too.
        channels: all modalities of the task, whose order numbers them.
        named: modality -> description of its series.
        whole: leave out studies that lack one of the wanted images, not only those without any.
        listing: ``cases.csv`` or ``cases.json``, which lists the images of each study; "": none.
        labels: of the studies' segmentations; None: they are not read.
        own_grids: leave each image on its own grid; else all of a study are laid onto one.

    Raises:
        DataError: no DICOM, or no study that can be read; names the study and its series.
    """
    unlabelled: dict[str, str] = {}
    try:
        found = find_series(root)
        looked_for = wanted or tuple(dict.fromkeys((*_EVERY, *(named or ()))))
        studies, failed = read_studies(found, looked_for, named)
        if wanted is None:
            every = tuple(sorted({name for study in studies for name in study.images}))
            wanted = channels = (whole and usual_contrasts(studies)) or every
        kept = []
        for study in studies:
            try:
                _check_whole(study, wanted, whole)
                shown = [name for name in study.images if name in wanted]
                study = replace(study, images={name: study.images[name] for name in shown})
                numbered = ((name, list(channels).index(name)) for name in shown)
                paths = {name: naming(study.id, name, number) for name, number in numbered}
                folder = _written(study, paths, own_grids)
                segmented = _segmented(study, folder, labels, unlabelled) if labels else None
                kept.append(Kept(study, folder, segmented))
            except DataError as error:
                failed[study.id] = f"{study.id}: {error}"
    finally:
        close_archives()
    unread = f"; not read: {shortened(found.unread)}" if found.unread else ""
    if not kept:
        reasons = list(failed.values()) or ["no series is an image"]
        raise DataError(f"{root}: {shortened(reasons)}{unread}")
    segmented_studies = [each.segmented for each in kept if each.segmented]
    if labels and labels.needed and not segmented_studies:
        why = f" ({shortened(list(failed.values()))})" if failed else ""
        raise DataError(
            f"{root}: no study has a segmentation (DICOM SEG){why}; add one per study, or "
            "convert the images by medtl data convert and add label maps"
        )
    notes = [note for each in kept for note in _notes(each.study, own_grids)]
    if labels and segmented_studies:
        notes.append(counted_regions(segmented_studies, labels))
    folder = join_studies(kept, labels, listing, tuple(channels), naming)
    used = tuple(each.study for each in kept)
    return Converted(folder, used, tuple(notes), failed, found.unread, unlabelled)


def _segmented(
    study: Study, images: Path, labels: LabelMaps, unlabelled: dict[str, str]
) -> Segmented | None:
    """The segments of a study, on the grid of its images; None if it has none.

    Raises:
        DataError: they cannot be used, and are needed.
    """
    if not study.segmentations:
        return None
    onto = reference_of(study).stack
    folder = cache_dir() / "dicom" / _key_of_segments(study, images)
    try:
        if not folder.is_dir():
            with settled(folder), new_folder(folder) as filling:
                keep_segments(study, onto, filling)
        segmented = kept_segments(folder)
        check_known(segmented, labels)
    except DataError as error:
        if labels.needed:
            raise
        unlabelled[study.id] = f"{study.id}: its segmentation is not used: {error}"
        return None
    return segmented


def _key_of_segments(study: Study, images: Path) -> str:
    """A hash of what segments are painted from, and onto."""
    files = {frame.file for series in study.segmentations for frame in series.frames}
    contents = sorted((content_of(file.path), file.member) for file in files)
    names = [series.origin.names for series in study.segmentations]
    grids = [
        [each.series.origin.series, each.stack.shape, each.stack.affine.tolist()]
        for each in study.grids
    ]
    return key_of("segments", images.name, contents, names, grids)


def _check_whole(study: Study, wanted: Sequence[str], whole: bool) -> None:
    """Raise DataError if a study lacks one of the wanted images, or, unless ``whole``, all."""
    lacking = [name for name in wanted if name not in study.images]
    if (lacking and whole) or len(lacking) == len(wanted):
        reasons = f" ({'; '.join(study.set_aside)})" if study.set_aside else ""
        what = ", ".join(lacking) or "a known contrast"
        name = next(iter(lacking), "MODALITY")
        advice = f"; name it by --series {name}=DESCRIPTION" if study.unknown else ""
        raise DataError(f"no series shows {what}{reasons}{advice}")


def _written(study: Study, paths: Mapping[Modality, str], own_grids: bool) -> Path:
    """The folder of a study's images; it is filled unless it is there."""
    folder = cache_dir() / "dicom" / _key(study, paths, own_grids)
    if not folder.is_dir():
        images = _images(study, own_grids)
        onto = reference_of(study).stack.affine
        with settled(folder), new_folder(folder) as filling:
            for name, image_IJK in images.items():
                affine = study.images[name].stack.affine if own_grids else onto
                path = filling / paths[name]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_nifti(path, image_IJK, affine)
    return folder


def _notes(study: Study, own_grids: bool) -> list[str]:
    shown = [f"{name} {chosen.series.description}" for name, chosen in study.images.items()]
    notes = [f"{study.id}: {', '.join(shown)}"]
    for name, chosen in study.images.items():
        if text := thinned(chosen.stack):
            notes.append(f"warning: {study.id}: {name}: {text}")
    doubled = sum(chosen.stack.doubled for chosen in study.images.values())
    if doubled:
        notes.append(f"{study.id}: slices that lie there more than once: {doubled}")
    if study.set_aside:
        notes.append(f"{study.id}: set aside: {'; '.join(study.set_aside)}")
    if not own_grids and (moved := _moved(study)):
        laid = f"{', '.join(moved)} laid onto the grid of {_reference(study)}"
        notes.append(f"warning: {study.id}: {laid}; they were not registered (predict --register)")
    return notes


def reference_of(study: Study) -> Chosen:
    """The series of a study on whose grid all its images are written."""
    return study.images[_reference(study)]


def _reference(study: Study) -> Modality:
    return one_grid.reference_of({name: _header(each) for name, each in study.images.items()})


def _moved(study: Study) -> list[Modality]:
    onto = _header(reference_of(study))
    return [name for name, each in study.images.items() if not same_grid(onto, _header(each))]


def _header(chosen: Chosen) -> Header:
    stack = chosen.stack
    path = stack.frames[0].file.path
    return Header(path, stack.shape, stack.affine, stack.spacing_mm, np.dtype(np.float32))


def _images(
    study: Study, own_grids: bool
) -> dict[Modality, NDArray[np.float32] | NDArray[np.int16]]:
    """The images of a study, all on one grid or each on its own."""
    onto, moved = _header(reference_of(study)), [] if own_grids else _moved(study)
    for name in moved:
        one_grid.check_shown(name, _header(study.images[name]), _reference(study), onto)
    images = {}
    for name, chosen in study.images.items():
        stack = chosen.stack
        image_IJK = read_stack(stack.frames)
        if name in moved:
            image_IJK = resample_onto(image_IJK, stack.affine, onto.shape, onto.affine)
        images[name] = _compact(image_IJK)
    return images


def _compact(image_IJK: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16]:
    """Whole numbers that int16 holds as int16."""
    limits = np.iinfo(np.int16)
    low, high = image_IJK.min(), image_IJK.max()
    if limits.min <= low and high <= limits.max and (image_IJK == np.rint(image_IJK)).all():
        return image_IJK.astype(np.int16)
    return image_IJK


def _key(study: Study, paths: Mapping[Modality, str], own_grids: bool) -> str:
    """A hash of the files that are read, in their order, and of what is made of them."""
    contents: dict[Path, str] = {}
    parts = []
    for name, chosen in study.images.items():
        for frame in chosen.stack.frames:
            path = frame.file.path
            if path not in contents:
                contents[path] = content_of(path)
            parts.append([name, contents[path], frame.file.member, frame.index])
    return key_of(sorted(paths.items()), parts, own_grids)
