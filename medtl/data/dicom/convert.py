"""Studies in DICOM -> NIfTI files in the cache, all images of a study on one grid.

Axes: I J K voxels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl import __version__
from medtl.data.case import Cohort
from medtl.data.dicom.files import DicomFile
from medtl.data.dicom.pixels import read_stack
from medtl.data.dicom.series import Found, find_series
from medtl.data.dicom.study import Chosen, Study, read_studies
from medtl.data.io.geometry import Header, same_grid
from medtl.data.io.nifti import write_nifti
from medtl.data.io.resample_onto import resample_onto
from medtl.data.modality import Modality
from medtl.errors import DataError, shortened
from medtl.runtime.cache import cache_dir, content_of
from medtl.runtime.files import new_folder

#: Where a case's image lies: case, modality, number of the modality -> path below the folder.
Naming = Callable[[str, str, int], str]

#: The image on whose grid the others are laid comes first among these.
_REFERENCE = ("t1ce",)


@dataclass(frozen=True, slots=True)
class Converted:
    """The folder of NIfTI files, the studies in it, and notes for the user."""

    folder: Path
    studies: tuple[Study, ...]
    notes: tuple[str, ...]

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
        return replace(cohort, cases=cases)


def convert_studies(
    root: Path,
    wanted: Sequence[str],
    channels: Sequence[str],
    naming: Naming,
    named: Mapping[str, str] | None = None,
) -> Converted:
    """Write the ``wanted`` images of every study below ``root``, once; later calls find them.

    Args:
        channels: all modalities of the task, whose order numbers them.
        named: modality -> description of its series.

    Raises:
        DataError: no DICOM, no study with a wanted modality, or one that cannot be read; names the
            study and its series.
    """
    found = find_series(root)
    studies = read_studies(found, wanted, named)
    kept = [study for study in studies if study.images]
    notes = list(_notes(found, studies, wanted))
    if not kept:
        raise DataError(
            f"{root}: no series shows {', '.join(wanted)}; {shortened(notes, 12)}; "
            f"name them by --series {wanted[0]}=DESCRIPTION"
        )
    folder = cache_dir() / "dicom" / _key(kept, channels)
    if not folder.is_dir():
        with new_folder(folder) as filling:
            for study in kept:
                _write(study, filling, channels, naming)
    return Converted(folder, tuple(kept), tuple(notes))


def _notes(found: Found, studies: Sequence[Study], wanted: Sequence[str]) -> list[str]:
    notes = []
    for study in studies:
        shown = [
            f"{modality} {chosen.series.description}" for modality, chosen in study.images.items()
        ]
        lacking = [name for name in wanted if name not in study.images]
        if shown:
            notes.append(f"{study.id}: {', '.join(shown)}")
        if lacking and shown:
            notes.append(f"warning: {study.id}: no series shows {', '.join(lacking)}")
        doubled = sum(chosen.stack.doubled for chosen in study.images.values())
        if doubled:
            notes.append(f"{study.id}: {doubled} files are copies of others; each is read once")
        if study.set_aside:
            notes.append(f"{study.id}: set aside: {'; '.join(study.set_aside)}")
        moved = _moved(study)
        if moved:
            notes.append(
                f"{study.id}: {', '.join(moved)} laid onto the grid of {_reference(study)}"
            )
    if found.unread:
        notes.append(f"warning: not read: {shortened(found.unread)}")
    return notes


def reference_of(study: Study) -> Chosen:
    """The series of a study on whose grid all its images are written."""
    return study.images[_reference(study)]


def _reference(study: Study) -> Modality:
    """The image whose grid the others are laid onto: T1 with contrast, else the finest voxels."""
    for name in _REFERENCE:
        if name in study.images:
            return Modality(name)
    return min(study.images, key=lambda name: float(np.prod(study.images[name].stack.spacing_mm)))


def _moved(study: Study) -> list[str]:
    if not study.images:
        return []
    onto = _header(reference_of(study))
    return [name for name, each in study.images.items() if not same_grid(onto, _header(each))]


def _header(chosen: Chosen) -> Header:
    stack = chosen.stack
    path = stack.frames[0].file.path
    return Header(path, stack.shape, stack.affine, stack.spacing_mm, np.dtype(np.float32))


def _write(study: Study, folder: Path, channels: Sequence[str], naming: Naming) -> None:
    reference = reference_of(study).stack
    moved = _moved(study)
    for name, chosen in study.images.items():
        stack = chosen.stack
        image_IJK = read_stack(stack.frames)
        if name in moved:
            image_IJK = resample_onto(image_IJK, stack.affine, reference.shape, reference.affine)
        path = folder / naming(study.id, name, list(channels).index(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, _compact(image_IJK), reference.affine)


def _compact(image_IJK: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16]:
    """Whole numbers that int16 holds as int16."""
    limits = np.iinfo(np.int16)
    low, high = image_IJK.min(), image_IJK.max()
    if limits.min <= low and high <= limits.max and (image_IJK == np.rint(image_IJK)).all():
        return image_IJK.astype(np.int16)
    return image_IJK


def _key(studies: Sequence[Study], channels: Sequence[str]) -> str:
    """A hash of the files that are read, in their order, and of what is made of them."""
    parts = [
        [study.id, name, [_content(frame.file, frame.index) for frame in chosen.stack.frames]]
        for study in studies
        for name, chosen in study.images.items()
    ]
    text = json.dumps([__version__, list(channels), parts])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _content(file: DicomFile, index: int | None) -> str:
    return f"{content_of(file.path)}:{file.member}:{index}"
