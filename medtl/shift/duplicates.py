"""Images that are (nearly) the same in both domains, or twice in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medtl.console import Reporter
from medtl.duplicates import Group, duplicate_groups, joined
from medtl.shift.sides import Image


@dataclass(frozen=True, slots=True)
class Overlap:
    """Groups of images that are the same, by their number.

    ``spanning``: in both domains, so that they hide a shift: to be dropped, and counted.
    ``within``: in one of them; their patients are one (:func:`merged_patients`).
    """

    spanning: tuple[Group, ...]
    within: tuple[Group, ...]

    @property
    def dropped(self) -> frozenset[int]:
        return frozenset(number for group in self.spanning for number in group.members)


def overlap(images: Sequence[Image], reporter: Reporter) -> Overlap:
    """Find them by content. Of joint images one modality that is the same is enough.

    An image that lies in both domains itself is no duplicate. Errors as read_volume.
    """
    files = [(n, image.case.images[m]) for n, image in enumerate(images) for m in image.modalities]
    owners = [number for number, _ in files]
    found = duplicate_groups([file for _, file in files], reporter)
    groups = [
        Group(members, group.identical)
        for group in found
        if len(members := tuple(sorted({owners[n] for n in group.members}))) > 1
    ]
    spanning = [group for group in groups if _spans([images[n] for n in group.members])]
    return Overlap(tuple(spanning), tuple(group for group in groups if group not in spanning))


def merged_patients(images: Sequence[Image], groups: Sequence[Group]) -> list[str]:
    """The patient of each image, where patients who share one of the ``groups`` are one."""
    patients = list(dict.fromkeys(image.patient for image in images))
    place = {patient: number for number, patient in enumerate(patients)}
    pairs = [
        (place[images[group.members[0]].patient], place[images[member].patient])
        for group in groups
        for member in group.members
    ]
    first = joined(len(patients), pairs)
    return [patients[first[place[image.patient]]] for image in images]


def _spans(images: Sequence[Image]) -> bool:
    """Whether one of them is in the source and another in the target."""
    return any(a is not b and a.in_source and b.in_target for a in images for b in images)
