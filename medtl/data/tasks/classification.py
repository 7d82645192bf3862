"""The task ``classification``: images of a data set in a common layout, each of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtl.data.case import Case, ImageFile
from medtl.data.duplicates import groups_of, thumbnails_of
from medtl.data.formats.bids import is_bids, read_bids
from medtl.data.formats.case_list import (
    Entry,
    Listing,
    check_list,
    checked,
    list_in,
    read_object,
    spread,
    trainable,
)
from medtl.data.formats.cells import spelling
from medtl.data.formats.class_folders import read_class_folders
from medtl.data.formats.datalist import read_datalist
from medtl.data.formats.label_names import recorded_channels
from medtl.data.formats.parts import kept_apart
from medtl.data.formats.table import read_table
from medtl.data.io.nifti import count_volumes
from medtl.data.io.pictures import COLOURS, is_picture
from medtl.data.modality import Modality
from medtl.data.phantom import KAGGLE, read_index
from medtl.data.task import Advice, check_no_labels
from medtl.data.tasks.classification_defaults import (
    check_every_class,
    class_defaults,
    facts_of,
    picture_advice,
    volume_advice,
)
from medtl.data.tasks.listed import Images, ListedTask, UnboundTask, bare_case, unnamed_channels
from medtl.data.voxel_size import Spacing
from medtl.errors import ConfigError, DataError, RunError, shortened
from medtl.runtime.console import Reporter
from medtl.runtime.files import real_path
from medtl.runtime.parallel import in_threads

#: The most pictures that are compared with each other: each is read, and the time of comparing
#: grows with their square.
MOST_COMPARED = 10_000

#: Number of cases whose pictures are searched for colours.
COLOUR_SAMPLE = 24


class Classification(UnboundTask):
    """Classes of any images: a folder per class, a MONAI datalist, a table or BIDS."""

    name = "classification"
    phantom = KAGGLE
    dicom_list = "cases.csv"

    def image_path(self, case: str, modality: str, number: int) -> str:
        """See :meth:`medtl.data.task.Task.image_path`."""
        return f"{case}_{number:04}.nii"

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
        listing = checked(read_images(Path(root), self.ignored))
        if names is None and self.needs_labels:
            listing = trainable(listing)
        notes = list(listing.notes)
        pictures = _are_pictures(listing)
        if names is not None:
            if pictures != _recorded(names, "pictures"):
                kinds = ("pictures", "volumes") if pictures else ("volumes", "pictures")
                raise DataError(f"{root}: holds {kinds[0]}, the model was trained on {kinds[1]}")
            channels, classes = recorded_channels(names), tuple(_recorded(names, "classes"))
            listing = _renumbered(_spelt_as(listing, classes), channels)
            return OwnClasses(root, listing, tuple(notes), channels, classes, pictures)
        channels = _channels(listing, pictures, notes)
        classes = _classes(listing) if self.needs_labels else _stated_classes(listing)
        return OwnClasses(root, listing, tuple(notes), channels, classes, pictures)


def _recorded(names: Mapping[str, Any], what: str) -> Any:
    if what not in names:
        raise RunError(f"the checkpoint does not say its {what}; it is damaged")
    return names[what]


def _renumbered(listing: Listing, channels: Sequence[str]) -> Listing:
    """The listing with the images of a table counted as a model counts its channels.

    A table may lack columns, and have them in another order. Other names say nothing of the order.
    """
    named = [str(name) for name in listing.channels or ()]
    if not named or named == list(channels) or not set(named) <= set(channels):
        return listing
    number = {n: list(channels).index(name) for n, name in enumerate(named)}
    entries = tuple(
        replace(entry, files={number[n]: path for n, path in entry.files.items()}, packed=False)
        for entry in listing.entries
    )
    return replace(listing, entries=entries)


def _spelt_as(listing: Listing, classes: Sequence[str]) -> Listing:
    """The listing with classes in the spelling of those that a model knows."""
    known = {spelling(str(name)): str(name) for name in classes}
    entries = tuple(
        replace(entry, class_name=known.get(spelling(entry.class_name), entry.class_name))
        for entry in listing.entries
    )
    return replace(listing, entries=entries)


def read_images(root: Path, ignored: Sequence[str] = ()) -> Listing:
    """Whatever layout ``root`` has: a folder, or the .json or .csv file itself.

    ``ignored``: columns of a table, or keys of a list, to leave out.
    """
    path: Path | None = root
    if is_bids(root):
        return read_bids(root, classes=True, ignored=ignored)
    if root.is_dir():
        folders = any(p.is_dir() and not p.name.startswith(".") for p in root.iterdir())
        path = None if folders else list_in(root, ("predictions.csv",))  # medtl predict writes it
    home = root if path is None else path.parent
    # A part of the phantom, such as its training images, is synthetic, too.
    synthetic = any(
        read_index(folder).get("synthetic") for folder in (home, real_path(home).parent)
    )
    listing = _read_list(path, ignored) if path else read_class_folders(root)
    return replace(listing, synthetic=synthetic)


def _read_list(path: Path, ignored: Sequence[str]) -> Listing:
    check_list(path)
    if path.suffix.lower() == ".csv":
        return read_table(path, classes=True, ignored=ignored)
    return read_datalist(path, read_object(path), classes=True, ignored=ignored)


def _are_pictures(listing: Listing) -> bool:
    """Whether the images are pictures; DataError where some are volumes."""
    files = [path for entry in listing.entries for path in entry.files.values()]
    kinds = in_threads(is_picture, files)
    if len(set(kinds)) > 1:
        picture, volume = files[kinds.index(True)], files[kinds.index(False)]
        raise DataError(f"{picture} is a picture, {volume} is not; keep one kind of image")
    return kinds[0]


def _channels(listing: Listing, pictures: bool, notes: list[str]) -> tuple[Modality, ...]:
    """The modalities: as listed, the colours of coloured pictures, or numbered names."""
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
    return unnamed_channels(first, pictures=pictures)


def _classes(listing: Listing) -> tuple[str, ...]:
    classes = _stated_classes(listing)
    if not classes:
        raise DataError(f"{listing.source}: {listing.unlabelled}")
    for name in classes:
        if not name.isprintable() or name == "all" or name.endswith(" by patient"):
            raise DataError(f"{listing.source}: {name!r} cannot be the name of a class; rename it")
    if len(classes) == 1:
        raise DataError(f"{listing.source}: has the one class {classes[0]}; at least 2 are needed")
    return classes


def _stated_classes(listing: Listing) -> tuple[str, ...]:
    return tuple(sorted({entry.class_name for entry in listing.entries} - {""}))


@dataclass
class OwnClasses(ListedTask):
    """Classification of one data set; see :meth:`medtl.data.task.Task.bind`."""

    regions: tuple[str, ...]  #: the classes: what the network's outputs are called
    pictures: bool

    name = Classification.name
    kind = "classification"
    nested = False
    exclusive = True
    without_target = "cases without a class"

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

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: Spacing | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`; DataError where a class has no training case."""
        check_every_class(cases, self.regions, self.listing.source)
        advice = picture_advice if self.pictures else volume_advice
        names = tuple(map(Modality, modalities))
        return advice(cases, names, self.defaults, spacing_mm, patch_size)

    def _notes(self) -> list[str]:
        """Pictures that are, or nearly are, stored twice: in two parts, or as two patients."""
        listing = self.listing
        entries = [*listing.entries, *listing.apart] if listing.trains else []
        if not self.pictures or len(entries) < 2:
            return []
        if len(entries) > MOST_COMPARED:
            return [f"more than {MOST_COMPARED} pictures: near-duplicates are not looked for"]
        files = [ImageFile(path) for entry in entries for path in entry.files.values()]
        owners = [n for n, entry in enumerate(entries) for _ in entry.files]
        across, within = [], []
        for group in groups_of(thumbnails_of(files, Reporter(quiet=True))):
            members = [entries[n] for n in dict.fromkeys(owners[n] for n in group.members)]
            apart = [entry for entry in members if kept_apart(entry.part)]
            trained = [entry for entry in members if not kept_apart(entry.part)]
            if apart and trained:
                across += [f"{entry.id} = {trained[0].id}" for entry in apart]
            if len({entry.patient or entry.id for entry in trained}) > 1:
                within += [f"{entry.id} = {trained[0].id}" for entry in trained[1:]]
        notes = []
        if across:
            notes.append(
                f"warning: {len(across)} pictures of parts that are kept apart are, or nearly are, "
                f"pictures trained on: {shortened(across)}"
            )
        if within:
            notes.append(
                f"warning: {len(within)} pictures are, or nearly are, pictures of other patients "
                f"({shortened(within)}); name one patient for both in a table, or leave one out"
            )
        return notes

    def _images(self, entry: Entry) -> Images:
        count = len(self.modalities)
        channels = f"{count}: {', '.join(self.modalities)}"
        if not entry.packed:
            odd = [path for n, path in entry.files.items() if n >= count]
            if odd:
                raise DataError(f"{odd[0]}: one channel too many; there are {channels}")
        elif not entry.files:
            return {}
        else:
            held = 1 if self.pictures else count_volumes(entry.files[0])
            if held != count and not (self.pictures and self.modalities == COLOURS):
                raise DataError(f"{entry.files[0]}: it holds {held} channels, not {channels}")
        return self._numbered(entry)

    def _check_channels(self, entry: Entry, images: Images, required: Sequence[str]) -> None:
        for name in required:
            if Modality(name) not in images:
                has = ", ".join(images) or "none"
                raise DataError(f"{entry.where}: {entry.id} has no {name} image, only {has}")

    def _cases(
        self, entries: Sequence[Entry], images: Sequence[Images], notes: list[str]
    ) -> tuple[Case, ...]:
        return tuple(map(self._case, entries, images))

    def _case(self, entry: Entry, images: Images) -> Case:
        mask = ImageFile(entry.mask) if entry.mask else None
        case = bare_case(entry, images, stratum=entry.class_name)
        return replace(case, class_name=entry.class_name, mask=mask)
