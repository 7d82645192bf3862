"""Lists of cases in JSON: the Medical Segmentation Decathlon's dataset.json, MONAI's datalists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from medtl.data.formats.case_list import TRAINING, Entry, Listing, existing, stem
from medtl.data.formats.label_names import channel_names, dataset_regions
from medtl.errors import DataError

_PARTS = {TRAINING: TRAINING, "validation": "validation", "test": "test", "testing": "test"}


def read_datalist(path: Path, content: Mapping[str, Any], *, classes: bool = False) -> Listing:
    """Cases under "training", and under "validation" and "test", which are never trained on.

    With ``classes`` each ``label`` is a class: a name, or a number that "labels" may name.

    Raises:
        DataError: an entry without an image, or a path that leads nowhere.
    """
    stated = content.get("channel_names", content.get("modality"))
    entries: list[Entry] = []
    for section, part in _PARTS.items():
        items = content.get(section, [])
        if not isinstance(items, list):
            raise DataError(f'{path}: "{section}" must be a list of {{"image": ..., "label": ...}}')
        for n, item in enumerate(items):
            where = f"{path}: {section}[{n}]"
            label = item.pop("label", None) if classes and isinstance(item, dict) else None
            entry = _entry(path, where, part, item)
            name = _class_name(label, content.get("labels"), where) if classes else ""
            entries.append(replace(entry, class_name=name))
    notes = []
    if max(Counter(entry.id for entry in entries).values(), default=0) > 1:
        # p1/image.nii.gz, p2/image.nii.gz: there the folder is the case.
        entries = [replace(entry, id=entry.files[0].parent.resolve().name) for entry in entries]
        notes.append("file names repeat: cases are called by their folders")
    return Listing(
        path,
        tuple(entries),
        channel_names(stated, path) if stated else (),
        None if classes else dataset_regions(content, path),
        tuple(notes),
    )


def _class_name(label: Any, names: Any, where: str) -> str:
    """``1``, ``"1"`` or ``"glioma"``, by name where ``names`` has one; empty: not labelled."""
    if label is None:
        return ""
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise DataError(f"{where}: label {label!r} must be the name or number of one class")
    named = names.get(str(label), label) if isinstance(names, Mapping) else label
    return str(named).strip()


def _entry(path: Path, where: str, part: str, item: Any) -> Entry:
    if isinstance(item, str):  # the test cases of MSD
        item = {"image": item}
    if not isinstance(item, Mapping) or not item.get("image"):
        raise DataError(f'{where}: must be {{"image": ..., "label": ...}}')
    listed, packed = item["image"], not isinstance(item["image"], list)
    images = [existing(path.parent, text, where) for text in ([listed] if packed else listed)]
    fold = item.get("fold")
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise DataError(f"{where}: fold {fold!r} must be a number from 0 on")
    return Entry(
        str(item.get("id") or item.get("case") or _name(images)),
        dict(enumerate(images)),
        where,
        existing(path.parent, item["label"], where) if item.get("label") else None,
        packed=packed,
        patient=str(item.get("patient") or ""),
        site=str(item.get("site") or ""),
        part=part,
        fold=fold,
    )


def _name(images: Sequence[Path]) -> str:
    """What the file names of one case share, up to a whole word: x_flair, x_t1 -> x."""
    stems = [stem(path) for path in images]
    if len(stems) == 1:
        return re.sub(r"_0000$", "", stems[0])
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    shared = stems[0][: sum(1 for _ in columns)]
    if any(name[len(shared) : len(shared) + 1].isalnum() for name in stems):
        shared = shared[: max(shared.rfind(mark) for mark in "_-. ") + 1]
    return shared.strip("_-. ") or images[0].parent.resolve().name
