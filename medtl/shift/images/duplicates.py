"""Find images that are (nearly) the same in both domains, or twice in one domain."""

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
    """Groups of duplicate images, by their number.

    ``spanning``: in both domains; they hide a shift and are dropped. ``within``: in one domain. The
    patients of a group count as one (:func:`merged_patients`).
    """

    spanning: tuple[Group, ...]
    within: tuple[Group, ...]
    blank: frozenset[int]  #: 2-D images of one value: slices beyond the head

    @property
    def shared(self) -> frozenset[int]:
        return frozenset(number for group in self.spanning for number in group.members)


@dataclass(frozen=True, slots=True)
class Screening:
    """The images to drop, and the patients that count as one."""

    dropped: frozenset[tuple[str, str]]  #: (key of the case, modality)
    patients: Mapping[str, str]  #: patient -> the patient it counts as
    notes: tuple[str, ...]

    def kept(self, images: Sequence[Image]) -> list[Image]:
        """The ``images`` that are not dropped. Raises DataError if a domain has none."""
        kept = [
            replace(image, patient=self.patients.get(image.patient, image.patient))
            for image in images
            if not any((image.key, name) in self.dropped for name in image.modalities)
        ]
        for domain in ("in_source", "in_target"):
            if not any(getattr(image, domain) for image in kept):
                raise DataError(
                    f"all images of the {domain[3:]} domain are (nearly) the same as images of the "
                    "other; there is nothing left to compare"
                )
        return sorted(kept, key=lambda image: (image.patient, image.key, image.modalities))


def screen_images(
    images: Sequence[Image], reporter: Reporter, across: str | None = None
) -> Screening:
    """Find duplicates among single-modality ``images``.

    ``across``: "site" or "part"; images without one and patients in several are left out.
    """
    duplicates = overlap(images, reporter)
    left_out = set(duplicates.shared | duplicates.blank)
    patients = merged_patients(images, (*duplicates.spanning, *duplicates.within))
    notes = []
    if duplicates.spanning:
        identical = sum(group.identical for group in duplicates.spanning)
        notes.append(
            f"groups of the same images in both domains: {len(duplicates.spanning)} ({identical} "
            f"identical, the others nearly); all {len(duplicates.shared)} images are left out"
        )
    if duplicates.blank:
        notes.append(f"blank 2-D images, left out: {len(duplicates.blank)}")
    persons = len(set(patients.values()))
    if persons < len(patients):
        notes.append(f"patients who share an image count as one: {len(patients)} are {persons}")
    if across:
        ungrouped, ambiguous = _without_one_group(images, patients)
        if ungrouped:
            notes.append(f"images without a {across}, left out: {len(ungrouped)}")
        if ambiguous:
            notes.append(f"images of patients in several {across}s, left out: {len(ambiguous)}")
        left_out |= ungrouped | ambiguous
    dropped = frozenset((images[n].key, images[n].modalities[0]) for n in left_out)
    return Screening(dropped, patients, tuple(notes))


def _without_one_group(
    images: Sequence[Image], patients: Mapping[str, str]
) -> tuple[set[int], set[int]]:
    """The images without a group, if others have one, and those of patients in several groups."""
    groups: dict[str, set[str]] = {}
    for image in images:
        groups.setdefault(patients[image.patient], set()).update({image.group} - {""})
    ungrouped = {n for n, image in enumerate(images) if not image.group}
    ambiguous = {n for n, image in enumerate(images) if len(groups[patients[image.patient]]) > 1}
    return (ungrouped if len(ungrouped) < len(images) else set()), ambiguous


def overlap(images: Sequence[Image], reporter: Reporter) -> Overlap:
    """Compare the images by content; joint images are equal if one modality is.

    An image that is itself in both domains is no duplicate. Raises DataError for damaged files.
    """
    files = [(n, image.case.images[m]) for n, image in enumerate(images) for m in image.modalities]
    owners = [number for number, _ in files]
    thumbnails = thumbnails_of([file for _, file in files], reporter)
    pairs = zip(files, thumbnails, strict=True)
    blank = {n for (n, file), small in pairs if not small.hash and is_picture(file.path)}
    groups = [
        Group(members, group.identical)
        for group in groups_of(thumbnails)
        if len(members := tuple(sorted({owners[n] for n in group.members}))) > 1
    ]
    spanning = [group for group in groups if _spans([images[n] for n in group.members])]
    within = tuple(group for group in groups if group not in spanning)
    return Overlap(tuple(spanning), within, frozenset(blank))


def merged_patients(images: Sequence[Image], groups: Sequence[Group]) -> dict[str, str]:
    """Patient -> the patient it counts as; patients who share one of the ``groups`` are one."""
    patients = list(dict.fromkeys(image.patient for image in images))
    place = {patient: number for number, patient in enumerate(patients)}
    members = [[place[images[n].patient] for n in group.members] for group in groups]
    first = joined(len(patients), [(own[0], other) for own in members for other in own])
    return {patient: patients[first[place[patient]]] for patient in patients}


def _spans(images: Sequence[Image]) -> bool:
    """Whether two of the images are in different domains or groups."""
    if groups := {image.group for image in images} - {""}:
        return len(groups) > 1
    return any(a is not b and a.in_source and b.in_target for a in images for b in images)
