"""Lists of cases in JSON: the Medical Segmentation Decathlon's dataset.json, MONAI's datalists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from medtl.data.formats.case_list import (
    ANNOTATED,
    TRAINING,
    Entry,
    Listing,
    annotated_regions,
    existing,
    is_any_image,
    stem,
    without_keys,
)
from medtl.data.formats.cells import stated
from medtl.data.formats.columns import PART, PATIENT, SITE, Facts, facts_in
from medtl.data.formats.label_names import channel_names, dataset_regions
from medtl.data.formats.parts import TESTING, VALIDATION, kind_of
from medtl.errors import DataError
from medtl.runtime.files import real_path

#: What the sections of each kind are called as parts of the data.
_PARTS = {TRAINING: TRAINING, VALIDATION: "validation", TESTING: "test"}

_TAKEN = ("image", "label", "id", "case", "fold", ANNOTATED)

#: Keys of the segmentation where no item has a label.
_TARGETS = ("seg", "mask", "segmentation", "target")


def read_datalist(
    path: Path, content: Mapping[str, Any], *, classes: bool = False, ignored: Sequence[str] = ()
) -> Listing:
    """Cases under "training", "validation", "test" and their like; only the first are trained on.

    In a list of images, null stands for a modality that the case lacks. An item's ``annotated``
    names the regions that were looked for in it, as in ``["TC", "ET"]``.
    With ``classes`` each ``label`` is a class: a name, or a number that "labels" may name.

    Args:
        ignored: keys of items to leave out, as ``--ignore-column`` names them.

    Raises:
        DataError: an entry without an image, a path that leads nowhere, or a key that looks like
            patient, site or part and is not used.
    """
    stated_channels = content.get("channel_names", content.get("modality"))
    listed = list(_items(path, content))
    facts = _facts(path, [item for _, _, item in listed], ignored)
    target = _target_key([item for _, _, item in listed])
    entries: list[Entry] = []
    for where, part, item in listed:
        label = item.get(target)
        entry = _entry(path, where, part, item, facts, None if classes else label)
        name = _class_name(label, content.get("labels"), where) if classes else ""
        named = None if classes else without_keys(item, ignored).get(ANNOTATED)
        entries.append(replace(entry, class_name=name, annotated=annotated_regions(named, where)))
    notes = [*facts.notes, *_unread(content)]
    if max(Counter(entry.id for entry in entries).values(), default=0) > 1:
        # p1/image.nii.gz, p2/image.nii.gz: there the folder is the case.
        entries = [replace(entry, id=_folder_of(entry).name) for entry in entries]
        notes.append("file names repeat: cases are called by their folders")
    return Listing(
        path,
        tuple(entries),
        channel_names(stated_channels, path) if stated_channels else (),
        None if classes else dataset_regions(content, path),
        tuple(notes),
    )


def _items(path: Path, content: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Where each item stands, its part, and the item."""
    listed = []
    sections = {key: kind_of(key) for key in content}
    for kind, part in _PARTS.items():
        for section in [key for key, own in sections.items() if own == kind]:
            items = content[section]
            if not isinstance(items, list) and section not in (TRAINING, "validation", "test"):
                continue  # "numTraining": 4
            if not isinstance(items, list):
                raise DataError(
                    f'{path}: "{section}" must be a list of {{"image": ..., "label": ...}}'
                )
            for n, item in enumerate(items):
                where = f"{path}: {section}[{n}]"
                if isinstance(item, str):  # the test cases of MSD
                    item = {"image": item}
                if not isinstance(item, Mapping) or not item.get("image"):
                    raise DataError(f'{where}: must be {{"image": ..., "label": ...}}')
                listed.append((where, part, item))
    return listed


def _unread(content: Mapping[str, Any]) -> list[str]:
    """A note on lists of images that are no part."""
    unread = [
        f'{len(items)} items of "{key}"'
        for key, items in content.items()
        if isinstance(items, list)
        and not kind_of(key)
        and any(isinstance(item, Mapping) and "image" in item for item in items)
    ]
    return [f"lists that name no part, not read: {', '.join(unread)}"] if unread else []


def _facts(path: Path, items: Sequence[Mapping[str, Any]], ignored: Sequence[str]) -> Facts:
    """Which keys of the items say patient, site and part."""
    every = dict.fromkeys(key for item in items for key in item)
    keys = list(without_keys(every, ignored))
    rows = [{key: _text(item.get(key)) for key in keys} for item in items]
    images = [key for key in keys if any(is_any_image(row[key]) for row in rows)]
    return facts_in(path, keys, rows, [*_TAKEN, *_TARGETS, *images])


def _text(value: Any) -> str:
    return stated(value) if isinstance(value, str | int | float) else ""


def _target_key(items: Sequence[Mapping[str, Any]]) -> str:
    if any("label" in item for item in items):
        return "label"
    return next((key for key in _TARGETS if any(key in item for item in items)), "label")


def _class_name(label: Any, names: Any, where: str) -> str:
    """``1``, ``"1"`` or ``"glioma"``, by name where ``names`` has one; empty: not labelled."""
    if isinstance(label, bool) or not isinstance(label, int | str | float | None):
        raise DataError(f"{where}: label {label!r} must be the name or number of one class")
    text = stated(int(label) if isinstance(label, float) and label.is_integer() else label)
    named = names.get(text, text) if isinstance(names, Mapping) else text
    return str(named).strip()


def _entry(
    path: Path, where: str, part: str, item: Mapping[str, Any], facts: Facts, label: Any
) -> Entry:
    packed = not isinstance(item["image"], list)
    listed = [item["image"]] if packed else item["image"]
    files = {
        n: existing(path.parent, text, where) for n, text in enumerate(listed) if text is not None
    }
    if not files:
        raise DataError(f"{where}: names no image")
    target = existing(path.parent, label, where) if label and stated(label) else None
    fold = item.get("fold")
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise DataError(f"{where}: fold {fold!r} must be a number from 0 on")
    row = {key: _text(item.get(key)) for key in facts.columns.values()}
    return Entry(
        _text(item.get("id")) or _text(item.get("case")) or _name([*files.values()]),
        files,
        where,
        target,
        packed=packed,
        patient=facts.of(row, PATIENT),
        site=facts.of(row, SITE),
        part=facts.of(row, PART) or part,
        fold=fold,
    )


def _folder_of(entry: Entry) -> Path:
    return real_path(next(iter(entry.files.values())).parent)


def _name(images: Sequence[Path]) -> str:
    """What the file names of one case share, up to a whole word: x_flair, x_t1 -> x."""
    stems = [stem(path) for path in images]
    if len(stems) == 1:
        return re.sub(r"_0000$", "", stems[0])
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    shared = stems[0][: sum(1 for _ in columns)]
    if any(name[len(shared) : len(shared) + 1].isalnum() for name in stems):
        shared = shared[: max(shared.rfind(mark) for mark in "_-. ") + 1]
    return shared.strip("_-. ") or real_path(images[0].parent).name
