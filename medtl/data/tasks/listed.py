"""A task on one data set whose cases a list, a table or a folder names: what both tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.formats.case_list import Entry, Listing, counted
from medtl.data.io.nifti import count_volumes
from medtl.data.modality import Modality
from medtl.data.phantom import notes_of
from medtl.data.task import Task
from medtl.errors import DataError, shortened
from medtl.runtime.parallel import in_threads

Images = Mapping[Modality, ImageFile]


def unnamed_channels(entry: Entry, *, pictures: bool = False) -> tuple[Modality, ...]:
    """Names for the channels of a data set that names none, as many as ``entry`` has."""
    count = len(entry.files)
    if pictures or entry.packed:
        count = 1 if pictures else count_volumes(entry.files[0])
    names = ["image"] if count == 1 else [f"channel{n}" for n in range(count)]
    return tuple(map(Modality, names))


class UnboundTask(Task):
    """A task that reads whatever lists its cases, before it is bound to one data set."""

    def __init__(
        self,
        ignored: tuple[str, ...] = (),
        *,
        needs_labels: bool = True,
        series: Mapping[str, str] | None = None,
    ) -> None:
        """``ignored``: columns of a table to leave out; ``series``: of each modality, of DICOM."""
        self.ignored, self.needs_labels, self.series = ignored, needs_labels, series or {}

    def without_columns(self, names: Sequence[str]) -> Self:
        """See :meth:`medtl.data.task.Task.without_columns`."""
        return type(self)(tuple(names), needs_labels=self.needs_labels, series=self.series)

    def for_images(self) -> Self:
        """See :meth:`medtl.data.task.Task.for_images`."""
        return type(self)(self.ignored, needs_labels=False, series=self.series)

    def with_series(self, named: Mapping[str, str]) -> Self:
        """See :meth:`medtl.data.task.Task.with_series`."""
        return type(self)(self.ignored, needs_labels=self.needs_labels, series=named)


@dataclass
class ListedTask(Task):
    """A task that was bound to one data set; see :meth:`medtl.data.task.Task.bind`."""

    root: Path
    listing: Listing
    notes: tuple[str, ...]
    modalities: tuple[Modality, ...]

    #: What a case without a target is called in notes.
    without_target: ClassVar[str]

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """The cases of the data set that the task was bound to, with ``root`` and ``labels``.

        Raises:
            DataError: no case has a segmentation or class, a channel is missing or too many, or a
                label value has no name in the data set; always naming the file or the line.
        """
        entries = [entry for entry in self.listing.entries if _labelled(entry) or not need_target]
        notes = list(self.notes)
        if not entries:
            raise DataError(f"{self.listing.source}: {self.listing.unlabelled}")
        left_out = [entry.id for entry in self.listing.entries if not _labelled(entry)]
        if left_out and need_target:
            count = f"{len(left_out)} {self.without_target} were left out"
            notes.append(f"{count}: {shortened(left_out)}")
        notes[:0] = notes_of(self.listing.synthetic)
        notes += self._notes()
        images = in_threads(self._images, entries)
        for entry, own in zip(entries, images, strict=True):
            self._check_channels(entry, own, required or ())
        cases = self._cases(entries, images, notes)
        synthetic = self.listing.synthetic
        return Cohort(
            self.root,
            cases,
            tuple(notes),
            synthetic,
            counted=counted(entries),
            failed=self.listing.failed,
        )

    def _notes(self) -> list[str]:
        """What else the user should know of the data set."""
        return []

    def _images(self, entry: Entry) -> Images:
        raise NotImplementedError

    def _check_channels(self, entry: Entry, images: Images, required: Sequence[str]) -> None:
        raise NotImplementedError

    def _cases(
        self, entries: Sequence[Entry], images: Sequence[Images], notes: list[str]
    ) -> tuple[Case, ...]:
        """The cases; what the user should know of their targets is added to ``notes``."""
        raise NotImplementedError

    def _numbered(self, entry: Entry) -> Images:
        """A file per channel, or the channels of the one file that holds them all."""
        if not entry.packed:
            return {self.modalities[n]: ImageFile(path) for n, path in entry.files.items()}
        path = entry.files[0]
        if len(self.modalities) == 1:
            return {self.modalities[0]: ImageFile(path)}
        return {name: ImageFile(path, n) for n, name in enumerate(self.modalities)}


def bare_case(entry: Entry, images: Images, stratum: str) -> Case:
    """A case without its target."""
    return Case(
        id=entry.id,
        patient=entry.patient or entry.id,
        images=images,
        site=entry.site,
        part=entry.part,
        fold=entry.fold,
        stratum=stratum,
    )


def _labelled(entry: Entry) -> bool:
    return entry.target is not None or bool(entry.class_name)
