"""The images of several studies in one folder of the cache, with their label maps and a list."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.data.dicom.label_maps import LabelMaps, Segmented, chosen_values, regions_of
from medtl.data.dicom.study import Study
from medtl.runtime.cache import cache_dir, key_of
from medtl.runtime.files import new_folder, unwritable, write_csv

#: Lists the images of all studies: for classification, and for segmentation.
TABLE, LIST = "cases.csv", "cases.json"

#: Where a case's image lies: case, modality, number of the modality -> path below the folder.
Naming = Callable[[str, str, int], str]


@dataclass(frozen=True, slots=True)
class Kept:
    """A study that is used: the folder of its images, and its segments if they are needed."""

    study: Study
    folder: Path
    segmented: Segmented | None


def join_studies(
    kept: Sequence[Kept],
    labels: LabelMaps | None,
    listing: str,
    channels: tuple[str, ...],
    naming: Naming,
) -> Path:
    """One folder with the files of several, which are linked where the system can, their label maps
    and what lists them; or the path of the latter."""
    every = [each.segmented for each in kept if each.segmented]
    if len(kept) == 1 and not every and not listing:
        return kept[0].folder
    value_of = chosen_values(every, labels) if labels else {}
    regions = regions_of(every, labels, value_of) if labels and every else {}
    text = _list(kept, channels, naming, labels, regions) if listing == LIST else ""
    table = _table(kept, channels, naming) if listing == TABLE else []
    parts = sorted(
        (each.folder.name, each.segmented.folder.name if each.segmented else "") for each in kept
    )
    values = sorted((sorted(names), value) for names, value in value_of.items())
    joined = cache_dir() / "dicom" / key_of("joined", parts, values, table, text)
    if not joined.is_dir():
        with settled(joined), new_folder(joined) as filling:
            for each in kept:
                shutil.copytree(each.folder, filling, copy_function=_link, dirs_exist_ok=True)
                if labels and each.segmented:
                    each.segmented.write(filling / labels.path_of(each.study.id), value_of)
            if table:
                write_csv(filling / TABLE, table[0], table[1:])
            if text:
                (filling / LIST).write_text(text, encoding="utf-8")
    return joined / listing if listing else joined


def _table(kept: Sequence[Kept], channels: Sequence[str], naming: Naming) -> list[tuple[str, ...]]:
    """The channels, then a line per study with the path of each one's image."""
    lines = [("case", *channels)]
    for each in kept:
        lines.append((each.study.id, *(text or "" for text in _paths(each, channels, naming))))
    return lines


def _list(
    kept: Sequence[Kept],
    channels: Sequence[str],
    naming: Naming,
    labels: LabelMaps | None,
    regions: Mapping[str, Sequence[int]],
) -> str:
    """A list as MONAI has them; a modality that a study lacks is null."""
    items = []
    for each in kept:
        item: dict[str, Any] = {"id": each.study.id}
        if each.study.named:
            item["patient"] = each.study.patient
        item["image"] = _paths(each, channels, naming)
        if labels and each.segmented:
            item["label"] = labels.path_of(each.study.id)
        items.append(item)
    content: dict[str, Any] = {"channel_names": dict(enumerate(channels)), "training": items}
    if regions:
        content["labels"] = {"background": 0, **regions}
    return json.dumps(content, indent=1)


def _paths(each: Kept, channels: Sequence[str], naming: Naming) -> list[str | None]:
    return [
        naming(each.study.id, name, number) if name in each.study.images else None
        for number, name in enumerate(channels)
    ]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy(source, target)


@contextmanager
def settled(folder: Path) -> Iterator[None]:
    """Another process may fill the folder at the same time: the first one is kept."""
    try:
        yield
    except OSError as error:
        if not folder.is_dir():
            raise unwritable(folder, error) from error
