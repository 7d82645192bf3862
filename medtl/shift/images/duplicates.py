"""Images that are (nearly) the same in both domains, or twice in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medtl.data.duplicates import Group, groups_of, joined, thumbnails_of
from medtl.data.io.pictures import is_picture
from medtl.errors import DataError
from medtl.runtime.console import Reporter
from medtl.shift.images.domains import Image


@dataclass(frozen=True, slots=True)
class Overlap:
    """Groups of images that are the same, by their number.

    ``spanning``: in both domains, so that they hide a shift: to be dropped, and counted.
    ``within``: in one of them. The patients of either are one (:func:`merged_patients`).
    """

    spanning: tuple[Group, ...]
    within: tuple[Group, ...]
    blank: frozenset[int]  #: pictures of one value: slices beyond the head

    @property
    def shared(self) -> frozenset[int]:
        return frozenset(number for group in self.spanning for number in group.members)


@dataclass(frozen=True, slots=True)
class Screening:
    """Images less those that span both domains, with the patients that they show to be one."""

    dropped: frozenset[tuple[str, str]]  #: key of the case, modality
    patients: Mapping[str, str]
    notes: tuple[str, ...]

    def of(self, images: Sequence[Image]) -> list[Image]:
        """Those of ``images`` that are left. Raises DataError if a domain has none."""
        kept = [
            replace(image, patient=self.patients.get(image.patient, image.patient))
            for image in images
            if not any((image.key, name) in self.dropped for name in image.modalities)
        ]
        for side in ("in_source", "in_target"):
            if not any(getattr(image, side) for image in kept):
                raise DataError(
                    f"all images of the {side[3:]} domain are (nearly) the same as images of the "
                    "other; there is nothing left to compare"
                )
        return sorted(kept, key=lambda image: (image.patient, image.key, image.modalities))


def screen_images(
    images: Sequence[Image], reporter: Reporter, across: str | None = None
) -> Screening:
    """Look for duplicates among single-modality ``images``, and say what was found.

    ``across``: what the images' groups are; images without one, and patients in several, are left
    out.
    """
    found = overlap(images, reporter)
    left_out = set(found.shared | found.blank)
    patients = merged_patients(images, (*found.spanning, *found.within))
    notes = []
    if found.spanning:
        identical = sum(group.identical for group in found.spanning)
        notes.append(
            f"groups of the same images in both domains: {len(found.spanning)} ({identical} "
            f"identical, the others nearly); left out with all their {len(found.shared)} images"
        )
    if found.blank:
        notes.append(f"blank pictures, left out: {len(found.blank)}")
    persons = len(set(patients.values()))
    if persons < len(patients):
        notes.append(f"patients who share an image count as one: {len(patients)} are {persons}")
    if across:
        nowhere, everywhere = _without_one_group(images, patients)
        if nowhere:
            notes.append(f"images that name no {across}, left out: {len(nowhere)}")
        if everywhere:
            notes.append(f"images of patients in several {across}s, left out: {len(everywhere)}")
        left_out |= nowhere | everywhere
    dropped = frozenset((images[n].key, images[n].modalities[0]) for n in left_out)
    return Screening(dropped, patients, tuple(notes))


def _without_one_group(
    images: Sequence[Image], patients: Mapping[str, str]
) -> tuple[set[int], set[int]]:
    """Images without a group, if others have one, and those of patients in several."""
    groups: dict[str, set[str]] = {}
    for image in images:
        groups.setdefault(patients[image.patient], set()).update({image.group} - {""})
    nowhere = {n for n, image in enumerate(images) if not image.group}
    everywhere = {n for n, image in enumerate(images) if len(groups[patients[image.patient]]) > 1}
    return (nowhere if len(nowhere) < len(images) else set()), everywhere


def overlap(images: Sequence[Image], reporter: Reporter) -> Overlap:
    """Find them by content. Of joint images one modality that is the same is enough.

    An image that lies in both domains itself is no duplicate. Errors as read_volume.
    """
    files = [(n, image.case.images[m]) for n, image in enumerate(images) for m in image.modalities]
    owners = [number for number, _ in files]
    thumbnails = thumbnails_of([file for _, file in files], reporter)
    blank = {
        number
        for (number, file), thumbnail in zip(files, thumbnails, strict=True)
        if not thumbnail.hash and is_picture(file.path)
    }
    groups = [
        Group(members, group.identical)
        for group in groups_of(thumbnails)
        if len(members := tuple(sorted({owners[n] for n in group.members}))) > 1
    ]
    spanning = [group for group in groups if _spans([images[n] for n in group.members])]
    within = tuple(group for group in groups if group not in spanning)
    return Overlap(tuple(spanning), within, frozenset(blank))


def merged_patients(images: Sequence[Image], groups: Sequence[Group]) -> dict[str, str]:
    """Patient -> who it is, where patients who share one of the ``groups`` are one."""
    patients = list(dict.fromkeys(image.patient for image in images))
    place = {patient: number for number, patient in enumerate(patients)}
    pairs = [
        (place[images[group.members[0]].patient], place[images[member].patient])
        for group in groups
        for member in group.members
    ]
    first = joined(len(patients), pairs)
    return {patient: patients[first[place[patient]]] for patient in patients}


def _spans(images: Sequence[Image]) -> bool:
    """Whether one of them is in the source and another in the target, or in another group."""
    groups = {image.group for image in images} - {""}
    if groups:
        return len(groups) > 1
    return any(a is not b and a.in_source and b.in_target for a in images for b in images)
