"""A Case is one imaging study of one patient; a Cohort is what a task found in a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medtl.data.modality import Modality
from medtl.errors import DataError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image on disk; ``channel`` picks one volume of a 4-D file (MSD), or red (0), green or
    blue of a picture, which is grey without it."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One imaging study. Splits, bootstraps and permutations group by ``patient``, always.

    ``regions`` maps each region of the task to the label values it consists of in ``target``
    (they differ between data sets); ``labels`` are all values that may occur, background included.
    Where whole images are classified, ``class_name`` is the truth; empty: unknown. ``mask`` may
    then show where the class is seen (not 0); nothing is trained on it.
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
    fold: int | None = None  #: that the data set's own list puts it into
    stratum: str = ""  #: what a split is balanced over, e.g. "enhancing" or a class name

    @property
    def labelled(self) -> bool:
        """Whether its truth is known."""
        return self.target is not None or bool(self.class_name)


@dataclass(frozen=True, slots=True)
class Cohort:
    """The cases found, what to tell the user about them, and whether they are synthetic.

    ``leak`` ("" = none) says what flatters scores on these cases; it stands under every table.
    """

    root: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    leak: str = ""
    test: tuple[str, ...] = ()  #: patients whom the protocol locks away, whatever the settings
    #: what the protocol's folds are, of which one must be named, e.g. "0 CS, 1 DU"
    folds: str = ""
    counted: str = (
        "patients"  #: what stands for patients: groups of pictures, or "cases" themselves
    )
    pixels: bool = False  #: nobody recorded how large a pixel is: it counts as 1 mm
    keeps_seen: bool = False  #: test images that training has seen are scored all the same

    def check_classes(self, wanted: Collection[str]) -> None:
        """Refuse cases of a class that a model was not trained on."""
        for case in self.cases:
            if case.class_name not in wanted:
                raise DataError(
                    f"{self.root}: {case.id} is of class {case.class_name}, which was not trained "
                    f"on; known: {', '.join(wanted)}"
                )

    def check_regions(self, wanted: Iterable[str]) -> None:
        """Refuse cases that do not know one of the regions that a model was trained on."""
        for case in self.cases:
            for name in wanted:
                if name not in case.regions:
                    raise DataError(
                        f"{self.root}: {case.id} knows no region {name}, which was trained on; its "
                        f"labels are named {', '.join(case.regions)}"
                    )
