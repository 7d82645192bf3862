"""What a data set lists: its cases as files, in any layout. No image is opened."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from medtl.data.formats.cells import one_spelling, stated
from medtl.data.formats.label_names import Regions
from medtl.data.formats.parts import kept_apart, kind_of
from medtl.data.formats.text import read_text
from medtl.data.io.pictures import SUFFIXES
from medtl.data.modality import Modality
from medtl.errors import DataError, shortened
from medtl.runtime.files import from_home

Item = TypeVar("Item")


Result = TypeVar("Result")


TRAINING = "training"


#: The column, or key, of the regions that were looked for.
ANNOTATED = "annotated"


_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One case: a file per channel number, or one file (``packed``) that holds every channel."""

    id: str
    files: Mapping[int, Path]
    where: str  #: what lists it, for messages
    target: Path | None = None
    packed: bool = False
    patient: str = ""
    site: str = ""
    part: str = ""
    fold: int | None = None
    class_name: str = ""
    mask: Path | None = None
    annotated: tuple[str, ...] = ()  #: the only regions that were looked for; empty: all


@dataclass(frozen=True, slots=True)
class Listing:
    """All cases that ``source`` lists, and what it calls channels and labels (where it does)."""

    source: Path
    entries: tuple[Entry, ...]
    channels: tuple[Modality, ...] = ()
    regions: Regions | None = None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    unlabelled: str = "no case has a segmentation; add the label maps"  #: the error then
    #: cases of parts that are kept apart, which a listing for training does not hold
    apart: tuple[Entry, ...] = ()
    trains: bool = False  #: whether it is a listing for training
    expected: str = ""  #: name of a channel's file, for messages: ``{case}_{channel:04}.nii.gz``
    #: studies in DICOM that cannot be used -> why
    failed: Mapping[str, str] = field(default_factory=dict)


def trainable(listing: Listing) -> Listing:
    """The listing without the parts that are kept apart, and notes on what training must know."""

    notes = list(listing.notes)
    apart = tuple(entry for entry in listing.entries if kept_apart(entry.part))
    kept = tuple(entry for entry in listing.entries if not kept_apart(entry.part))
    if apart:
        parts = " and ".join(sorted({entry.part for entry in apart}))
        notes.append(f"{len(apart)} cases of part {parts} are not trained on")
        if not kept:
            raise DataError(
                f"{listing.source}: every case is of part {parts}; none is left to train on"
            )
    _check_parts(listing, notes)
    unnamed = sum(not entry.patient for entry in kept)
    if unnamed:
        some = f"{unnamed} of {len(kept)} cases name no patient"
        which = some if unnamed < len(kept) else "no case names its patient"
        notes.append(
            f"{which}: each counts as a patient of its own; patient leakage cannot be excluded"
        )
    return replace(listing, entries=kept, apart=apart, trains=True, notes=tuple(notes))


def _check_parts(listing: Listing, notes: list[str]) -> None:
    """Where some parts say training or test, the others must, too; else they may be anything."""
    kinds = {entry.part: kind_of(entry.part) for entry in listing.entries}
    odd = sorted(part for part, kind in kinds.items() if part and not kind)
    if odd and any(kinds.values()):
        entry = next(entry for entry in listing.entries if entry.part == odd[0])
        raise DataError(
            f"{entry.where}: part {odd[0]!r} is neither training, validation nor test; call it one "
            "of them"
        )
    nameless = [entry.id for entry in listing.entries if not entry.part]
    if nameless and any(kinds.values()):
        notes.append(
            f"warning: {len(nameless)} cases name no part, trained on: {shortened(nameless)}"
        )
    elif odd:
        notes.append(f"part {shortened(odd)}: trained on")


def counted(entries: Sequence[Entry]) -> str:
    """What is counted, and divided by a split: patients where any is named."""
    return "patients" if any(entry.patient for entry in entries) else "cases"


def checked(listing: Listing) -> Listing:
    """The listing sorted by case; classes, patients and sites have one spelling each.

    Raises:
        DataError: no cases, one id twice, or an id that cannot be the name of a file.
    """
    if not listing.entries:
        raise DataError(f"{listing.source}: lists no cases")
    places: dict[str, str] = {}
    for entry in listing.entries:
        # Predictions are written as <id>.nii.gz: an id must not lead anywhere else.
        odd = not entry.id or entry.id.startswith(".") or re.search(r"[/\\]", entry.id)
        if odd or not entry.id.isprintable() or len(entry.id) > 200:
            raise DataError(f"{entry.where}: {entry.id!r} cannot be the name of a case; rename it")
        if entry.id in places:
            raise DataError(
                f"{entry.where}: case {entry.id} is there twice (also {places[entry.id]}); "
                "give each case a name of its own"
            )
        places[entry.id] = entry.where
    notes = list(listing.notes)
    spelt = _spelt_alike(listing.entries, notes)
    entries = tuple(sorted(spelt, key=lambda entry: entry.id))
    return replace(listing, entries=entries, notes=tuple(notes))


def _spelt_alike(entries: Sequence[Entry], notes: list[str]) -> list[Entry]:
    classes = one_spelling([entry.class_name for entry in entries], "classes", notes)
    patients = one_spelling([entry.patient for entry in entries], "patients", notes)
    sites = one_spelling([entry.site for entry in entries], "sites", notes)
    return [
        replace(entry, class_name=class_name, patient=patient, site=site)
        for entry, class_name, patient, site in zip(entries, classes, patients, sites, strict=True)
    ]


def list_in(folder: Path, ignored: Collection[str]) -> Path | None:
    """The .json or .csv file that lists the cases of a folder, if any; DataError for several."""
    lists = sorted(p for kind in ("*.json", "*.csv") for p in folder.glob(kind))
    lists = [p for p in lists if p.name not in ignored and not p.name.startswith(".")]
    if len(lists) > 1:
        names = ", ".join(p.name for p in lists)
        raise DataError(f"{folder}: holds {names}; name the one that lists the cases")
    return lists[0] if lists else None


def check_list(path: Path) -> None:
    """Refuses what cannot be a list of cases."""
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() not in (".csv", ".json"):
        raise DataError(f"{path}: is neither a folder nor a .json or .csv file that lists cases")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; DataError for anything else."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise DataError(f'{path}: must hold an object such as {{"training": [...]}}')
    return content


def existing(folder: Path, text: Any, where: str) -> Path:
    """A listed path, relative to ``folder`` or absolute; it may lead anywhere: it is only read.

    Raises:
        DataError: no path, or no plain file there.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {text!r} is not the path of a file")
    named = text.strip()
    if named.lower().startswith("file://"):
        named = unquote(named[len("file://") :])
    if "://" in named:
        raise DataError(f"{where}: {named} is an address; download the file, and give its path")
    try:
        path = folder / from_home(named)
        if not path.is_file() and "\\" in named:  # as Windows writes it
            path = folder / named.replace("\\", "/")
        if path.is_file():
            return path
        lost = f"; it is a link to {os.readlink(path)}" if path.is_symlink() else ""
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {text!r} is not the path of a file") from error
    if re.match(r"[A-Za-z]:[\\/]", named):
        raise DataError(
            f"{where}: {named} is a path of another system; write it relative to {folder}"
        )
    what = "; a folder, a pipe or a device is there" if path.exists() else lost
    raise DataError(f"{where}: {path}: no such file{what}")


def without_keys(content: Mapping[str, Any], ignored: Sequence[str]) -> dict[str, Any]:
    """The content but for the keys that ``--ignore-column`` names."""
    left_out = {name.strip().casefold() for name in ignored}
    return {key: value for key, value in content.items() if str(key).casefold() not in left_out}


def annotated_regions(value: Any, where: str) -> tuple[str, ...]:
    """``"TC+ET"`` or ``["TC", "ET"]``: the regions that were looked for in a case. None and blank
    text: all."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    named = value.split("+") if isinstance(value, str) else value
    names = named if isinstance(named, list) else []
    if not names or not all(isinstance(name, str) and stated(name) for name in names):
        raise DataError(
            f"{where}: annotated {value!r} must name the regions that were looked for, as in "
            "TC+ET; leave it empty if all were"
        )
    return tuple(dict.fromkeys(name.strip() for name in names))


def is_nifti(name: str) -> bool:
    return bool(_SUFFIX.search(name))


def is_any_image(name: str) -> bool:
    """A NIfTI file or a picture, by its suffix."""
    return is_nifti(name) or name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    return _SUFFIX.sub("", path.name)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of the items, evenly spread."""
    if len(items) <= most:
        return [*items]
    return [items[n * len(items) // most] for n in range(most)]
