"""The task ``classification``: images of a data set in a common layout, each of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.formats.case_list import (
    Entry,
    Listing,
    check_list,
    checked,
    counted,
    list_in,
    read_object,
    spread,
    trainable,
)
from medtl.data.formats.class_folders import read_class_folders
from medtl.data.formats.datalist import read_datalist
from medtl.data.formats.detect import is_phantom
from medtl.data.formats.label_names import recorded_channels
from medtl.data.formats.table import read_table
from medtl.data.io.nifti import count_volumes
from medtl.data.io.pictures import COLOURS, is_picture
from medtl.data.modality import Modality
from medtl.data.phantom.cohort import KAGGLE, notes_of
from medtl.data.task import Advice, Task, check_no_labels
from medtl.data.tasks.classification_defaults import (
    check_every_class,
    class_defaults,
    facts_of,
    picture_advice,
    volume_advice,
)
from medtl.errors import ConfigError, DataError, RunError, shortened
from medtl.runtime.parallel import in_threads

#: Pictures of so many cases tell whether a data set has colours.
COLOUR_SAMPLE = 24


class Classification(Task):
    """Classes of anybody's images: a folder per class, a MONAI datalist or a table."""

    name = "classification"
    phantom = KAGGLE

    def bind(
        self,
        root: Path | None,
        labels: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> OwnClasses:
        """See :meth:`medtl.data.task.Task.bind`.

        Raises:
            ConfigError: no data, or ``labels``, which are for segmentations.
            DataError: no known layout, or what a file in it says is wrong.
        """
        if root is None:
            raise ConfigError("task classification has no data of its own; give yours by --data")
        check_no_labels(self.name, labels)
        listing = checked(read_images(Path(root)))
        if names is None:
            listing = trainable(listing)
        notes = list(listing.notes)
        pictures = _are_pictures(listing)
        if names is not None:
            if pictures != _recorded(names, "pictures"):
                kinds = ("pictures", "volumes") if pictures else ("volumes", "pictures")
                raise DataError(f"{root}: holds {kinds[0]}, the model was trained on {kinds[1]}")
            channels, classes = recorded_channels(names), tuple(_recorded(names, "classes"))
            return OwnClasses(root, listing, tuple(notes), channels, classes, pictures)
        channels = _channels(listing, pictures, notes)
        return OwnClasses(root, listing, tuple(notes), channels, _classes(listing), pictures)


def _recorded(names: Mapping[str, Any], what: str) -> Any:
    if what not in names:
        raise RunError(f"the checkpoint does not say its {what}; it is damaged")
    return names[what]


def read_images(root: Path) -> Listing:
    """Whatever layout ``root`` has: a folder, or the .json or .csv file itself."""
    path: Path | None = root
    if root.is_dir():
        folders = any(p.is_dir() and not p.name.startswith(".") for p in root.iterdir())
        path = None if folders else list_in(root, ("predictions.csv",))  # medtl predict writes it
    home = root if path is None else path.parent
    # A part of the phantom, such as its training images, is synthetic, too.
    synthetic = is_phantom(home) or is_phantom(home.resolve().parent)
    return replace(_read_list(path) if path else read_class_folders(root), synthetic=synthetic)


def _read_list(path: Path) -> Listing:
    check_list(path)
    if path.suffix.lower() == ".csv":
        return read_table(path, classes=True)
    return read_datalist(path, read_object(path), classes=True)


def _are_pictures(listing: Listing) -> bool:
    """Whether the images are pictures; DataError where some are volumes."""
    files = [path for entry in listing.entries for path in entry.files.values()]
    kinds = in_threads(is_picture, files)
    if len(set(kinds)) > 1:
        picture, volume = files[kinds.index(True)], files[kinds.index(False)]
        raise DataError(f"{picture} is a picture, {volume} is not; keep one kind of image")
    return kinds[0]


def _channels(listing: Listing, pictures: bool, notes: list[str]) -> tuple[Modality, ...]:
    """The modalities: as listed, the colours of coloured pictures, or made up."""
    held = [entry for entry in listing.entries if entry.files]
    first = held[0]
    if pictures and first.packed:
        paths = [entry.files[0] for entry in spread(held, COLOUR_SAMPLE)]
        coloured = sum(fact["coloured"] for fact in in_threads(facts_of, paths))
        if coloured:
            notes.append(f"{coloured} of {len(paths)} pictures looked at have colours: kept")
            return tuple(map(Modality, COLOURS))
    if listing.channels:
        return listing.channels
    count = 1 if pictures else count_volumes(first.files[0]) if first.packed else len(first.files)
    names = ["image"] if count == 1 else [f"channel{n}" for n in range(count)]
    return tuple(map(Modality, names))


def _classes(listing: Listing) -> tuple[str, ...]:
    classes = sorted({entry.class_name for entry in listing.entries} - {""})
    if not classes:
        raise DataError(f"{listing.source}: {listing.unlabelled}")
    for name in classes:
        if not name.isprintable() or name == "all" or name.endswith(" by patient"):
            raise DataError(f"{listing.source}: {name!r} cannot be the name of a class; rename it")
    if len(classes) == 1:
        raise DataError(f"{listing.source}: has the one class {classes[0]}; at least 2 are needed")
    return tuple(classes)


@dataclass
class OwnClasses(Task):
    """The task on one data set; see :meth:`medtl.data.task.Task.bind`."""

    root: Path
    listing: Listing
    notes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    regions: tuple[str, ...]  #: the classes: what the network's outputs are called
    pictures: bool
    name: str = Classification.name
    kind: str = "classification"
    nested: bool = False
    exclusive: bool = True

    def __post_init__(self) -> None:
        self.names = {
            "channels": list(self.modalities),
            "classes": list(self.regions),
            "pictures": self.pictures,
        }
        self.defaults = class_defaults("mod:" + "+".join(self.modalities))
        if not self.pictures:
            self.defaults = replace(
                self.defaults, transforms="mr", patch_size=(64, 64, 64), batch_size=4
            )
        self.phantom_defaults = self.defaults

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """The cases of the data set that the task was bound to, with ``root``.

        Raises:
            DataError: none of a class, or a channel that is missing or too many; always naming the
                file or the line.
        """
        entries = [e for e in self.listing.entries if e.class_name or not need_target]
        notes = list(self.notes)
        if not entries:
            raise DataError(f"{self.listing.source}: {self.listing.unlabelled}")
        bare = [e.id for e in self.listing.entries if not e.class_name]
        if bare and need_target:
            notes.append(f"{len(bare)} cases without a class were left out: {shortened(bare)}")
        images = in_threads(self._images, entries)
        for entry, found in zip(entries, images, strict=True):
            for name in required or ():
                if Modality(name) not in found:
                    has = ", ".join(found) or "none"
                    raise DataError(f"{entry.where}: {entry.id} has no {name} image, only {has}")
        notes[:0] = notes_of(self.listing.synthetic)
        cases = tuple(map(self._case, entries, images))
        return Cohort(
            self.root,
            cases,
            tuple(notes),
            self.listing.synthetic,
            counted=counted(entries),
        )

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: float | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`; DataError where a class has no training case."""
        check_every_class(cases, self.regions, self.listing.source)
        plan = picture_advice if self.pictures else volume_advice
        found = tuple(map(Modality, modalities))
        return plan(cases, found, self.defaults, spacing_mm, patch_size)

    def _images(self, entry: Entry) -> dict[Modality, ImageFile]:
        count = len(self.modalities)
        if not entry.packed:
            odd = [path for n, path in entry.files.items() if n >= count]
            if odd:
                raise DataError(f"{odd[0]}: one channel too many; there are {self._channels()}")
            return {self.modalities[n]: ImageFile(path) for n, path in entry.files.items()}
        if not entry.files:
            return {}
        path = entry.files[0]
        held = 1 if self.pictures else count_volumes(path)
        if held == count == 1:
            return {self.modalities[0]: ImageFile(path)}
        if held == count or (self.pictures and self.modalities == COLOURS):
            return {name: ImageFile(path, n) for n, name in enumerate(self.modalities)}
        raise DataError(f"{path}: it holds {held} channels, not {self._channels()}")

    def _channels(self) -> str:
        return f"{len(self.modalities)}: {', '.join(self.modalities)}"

    def _case(self, entry: Entry, images: Mapping[Modality, ImageFile]) -> Case:
        return Case(
            id=entry.id,
            patient=entry.patient or entry.id,
            images=images,
            class_name=entry.class_name,
            mask=ImageFile(entry.mask) if entry.mask else None,
            site=entry.site,
            part=entry.part,
            fold=entry.fold,
            stratum=entry.class_name,
        )
