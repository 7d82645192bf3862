"""A Case is one imaging study of one patient; a Cohort is what a task found in a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medtl.data.modality import Modality
from medtl.errors import DataError

if TYPE_CHECKING:
    from medtl.data.dicom.stacks import Stack


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image on disk.

    ``channel`` selects a volume of a 4-D file (MSD), or red (0), green (1) or blue (2) of a
    picture; a picture without it is read as grey.
    """

    path: Path
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One imaging study. Splits, bootstraps and permutations always group by ``patient``.

    ``regions`` maps each region of the task to its label values in ``target`` (they differ between
    data sets); ``labels`` are all values that may occur, with background. What nobody labelled, the
    voxels of ``ignored`` values (among ``labels``, in no region) and all of the ``unannotated``
    regions (which have their values in ``regions`` like the others), enters neither loss nor
    score. In classification ``class_name`` is the truth (empty: unknown), and ``mask`` may show
    where the class is visible (not 0); it is not trained on.
    """

    id: str
    patient: str
    images: Mapping[Modality, ImageFile]
    target: ImageFile | None = None
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()
    class_name: str = ""
    mask: ImageFile | None = None
    site: str = ""
    part: str = ""
    fold: int | None = None  #: the fold of the data set's own list
    stratum: str = ""  #: what splits are balanced over, e.g. "enhancing" or a class name
    ignored: tuple[int, ...] = ()  #: values that mark voxels nobody labelled
    unannotated: tuple[str, ...] = ()  #: regions nobody looked for in this case
    slices: Stack | None = None  #: on whose grid the images lie, where they came from DICOM

    @property
    def partial(self) -> bool:
        """Whether its truth is known only in part."""
        return bool(self.ignored or self.unannotated)

    def values_of(self, region: str) -> tuple[int, ...]:
        """The label values of a region; none if nobody looked for it."""
        return () if region in self.unannotated else self.regions[region]

    @property
    def labelled(self) -> bool:
        """Whether its truth is known."""
        return self.target is not None or bool(self.class_name)


@dataclass(frozen=True, slots=True)
class Cohort:
    """The cases found, notes for the user, and whether the cases are synthetic.

    ``leak`` ("" = none) describes a leak that flatters scores; it is printed under every table.
    """

    root: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    leak: str = ""
    test: tuple[str, ...] = ()  #: the protocol's fixed test patients
    #: the protocol's folds, one of which must be chosen, e.g. "0 CS, 1 DU"
    folds: str = ""
    counted: str = "patients"  #: what counts as a patient: groups of pictures, or "cases"
    pixels: bool = False  #: pixel sizes are unknown and taken as 1 mm
    keeps_seen: bool = False  #: score test images that were trained on, too
    #: studies that cannot be read and are left out -> why
    failed: Mapping[str, str] = field(default_factory=dict)

    def check_classes(self, wanted: Collection[str]) -> None:
        """Raise DataError for a case of a class that a model was not trained on."""
        for case in self.cases:
            if case.class_name not in wanted:
                raise DataError(
                    f"{self.root}: {case.id} is of class {case.class_name}, which was not trained "
                    f"on; known: {', '.join(wanted)}"
                )

    def check_regions(self, wanted: Iterable[str]) -> None:
        """Raise DataError for a case without one of the regions that a model was trained on."""
        for case in self.cases:
            for name in wanted:
                if name not in case.regions:
                    raise DataError(
                        f"{self.root}: {case.id} knows no region {name}, which was trained on; its "
                        f"labels are named {', '.join(case.regions)}"
                    )
