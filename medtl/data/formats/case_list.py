"""What a data set lists: its cases as files, in any layout. No image is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from medtl.data.formats.label_names import Regions
from medtl.data.io.pictures import SUFFIXES
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.files import from_home

Item = TypeVar("Item")


Result = TypeVar("Result")


TRAINING = "training"


#: Parts that a data set keeps apart: such cases are never trained on.
KEPT_APART = ("test", "testing", "val", "validation")


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


@dataclass(frozen=True, slots=True)
class Listing:
    """All cases that ``source`` lists, and what it calls channels and labels (where it does)."""

    source: Path
    entries: tuple[Entry, ...]
    channels: tuple[Modality, ...] = ()
    regions: Regions | None = None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    unlabelled: str = "no case has a segmentation to train on"  #: the error then
    expected: str = ""  #: name of a channel's file, for messages: ``{case}_{channel:04}.nii.gz``


def trainable(listing: Listing) -> Listing:
    """The listing without the parts that are kept apart, and notes on what training must know."""

    def apart(part: str) -> bool:
        return part.lower() in KEPT_APART

    notes = list(listing.notes)
    kept = tuple(entry for entry in listing.entries if not apart(entry.part))
    if len(kept) < len(listing.entries):
        parts = " and ".join(sorted({e.part for e in listing.entries if apart(e.part)}))
        notes.append(f"{len(listing.entries) - len(kept)} cases of part {parts} are not trained on")
        if not kept:
            raise DataError(
                f"{listing.source}: every case is of part {parts}; none is left to train on"
            )
    unnamed = sum(not entry.patient for entry in kept)
    if unnamed:
        some = f"{unnamed} of {len(kept)} cases name no patient: each"
        which = some if unnamed < len(kept) else "no patients are named: every case"
        notes.append(f"{which} counts as one; patient leakage cannot be excluded")
    return replace(listing, entries=kept, notes=tuple(notes))


def counted(entries: Sequence[Entry]) -> str:
    """What is counted, and divided by a split: patients where any is named."""
    return "patients" if any(entry.patient for entry in entries) else "cases"


def checked(listing: Listing) -> Listing:
    """The listing sorted by case.

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
    return replace(listing, entries=tuple(sorted(listing.entries, key=lambda entry: entry.id)))


def list_in(folder: Path, ignored: Collection[str]) -> Path | None:
    """The .json or .csv file that lists the cases of a folder, if any; DataError for several."""
    lists = sorted(p for kind in ("*.json", "*.csv") for p in folder.glob(kind))
    lists = [p for p in lists if p.name not in ignored]
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
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
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
    try:
        path = folder / from_home(text.strip())
        if path.is_file():
            return path
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {text!r} is not the path of a file") from error
    raise DataError(f"{where}: {path}: no such file")


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
