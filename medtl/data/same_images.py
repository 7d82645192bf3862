"""One image under several patients: they count as one, or training would see the test's images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.content_hash import image_fingerprint
from medtl.data.groups import joined_patients, with_patients
from medtl.data.modality import Modality
from medtl.errors import DataError, shortened
from medtl.runtime.cache import content_of
from medtl.runtime.console import Reporter
from medtl.runtime.files import open_regular, real_path

#: Bytes at both ends and in the middle of files of one size that are compared before the whole
#: files. The ends of uncompressed images of one grid are often alike.
PART = 1 << 16


def with_sharers_joined(
    cohort: Cohort, modalities: Sequence[Modality], reporter: Reporter
) -> Cohort:
    """The cohort in which patients who share an image file, or copies of it, are one patient.

    Only images of the ``modalities`` are compared.

    No image is decoded but shared ones. A cohort that says itself how its patients leak stays as
    it is.

    Raises:
        DataError: all patients share images, as where a channel is one image for all.
    """
    shared = [] if cohort.leak or cohort.keeps_seen else _shared(cohort.cases, modalities)
    if not shared:
        return cohort
    links = [(owners[0][0], who) for owners in shared for who, _ in owners]
    whose = joined_patients(cohort.cases, links)
    same = [_equation(owners) for owners in shared]
    count = len(set(whose.values()))
    if count == 1:
        raise DataError(
            f"{cohort.root}: all {len(whose)} {cohort.counted} share images "
            f"({shortened(same)}), so none can be tested on; give each image once, or leave out "
            "by --dst a channel that is one image for all"
        )
    reporter.warn(
        f"{cohort.root}: {len(whose)} {cohort.counted} count as {count}, as some share images: "
        f"{shortened(same)}"
    )
    return with_patients(cohort, whose)


def shared_images(cases: Sequence[Case], others: Sequence[Case]) -> list[str]:
    """``x.nii.gz = y.nii.gz`` for images of ``cases`` whose voxels some of the ``others`` have."""
    known = {image_fingerprint(file): file for case in others for file in case.images.values()}
    return [
        f"{file.path.name} = {known[value].path.name}"
        for case in cases
        for file in case.images.values()
        if (value := image_fingerprint(file)) and value in known
    ]


def _equation(owners: Sequence[tuple[str, Path]]) -> str:
    """``c1.nii.gz = c2.nii.gz``, with patients where one file is listed for several."""
    names = list(dict.fromkeys(path.name for _, path in owners))
    if len(names) > 1:
        return " = ".join(names[:2])
    return f"{names[0]} of {shortened([who for who, _ in owners], 2)}"


def _shared(cases: Iterable[Case], modalities: Sequence[Modality]) -> list[list[tuple[str, Path]]]:
    """The patients and files of images that several have; an image of one value does not count."""
    by_size: dict[int, dict[Path, tuple[ImageFile, set[str]]]] = {}
    for case in cases:
        for file in (case.images[name] for name in modalities if name in case.images):
            path = real_path(file.path)
            alike = by_size.setdefault(path.stat().st_size, {})
            alike.setdefault(path, (file, set()))[1].add(case.patient)
    found = []
    for files in by_size.values():
        for paths in _of_same_bytes([*files]):
            owners = sorted((who, path) for path in paths for who in files[path][1])
            several = len({who for who, _ in owners}) > 1
            if several and image_fingerprint(files[paths[0]][0]):
                found.append(owners)
    return sorted(found)


def _of_same_bytes(paths: Sequence[Path]) -> list[list[Path]]:
    groups = [[*paths]]
    for key in (_parts, content_of):
        groups = [same for group in groups for same in _divided(group, key)]
    return groups


def _divided(paths: list[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    if len(paths) == 1:
        return [paths]
    found: dict[Hashable, list[Path]] = {}
    for path in paths:
        found.setdefault(key(path), []).append(path)
    return [*found.values()]


def _parts(path: Path) -> bytes:
    with open_regular(path) as file:
        size, digest = file.seek(0, 2), hashlib.blake2b(digest_size=16)
        for start in (0, size // 2, size - PART):
            file.seek(max(start, 0))
            digest.update(file.read(PART))
    return digest.digest()
