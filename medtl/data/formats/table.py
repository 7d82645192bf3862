"""A table of cases: one row per case, a column of paths per modality."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medtl.data.formats.case_list import Entry, Listing, existing, is_any_image, is_nifti
from medtl.data.formats.label_names import channel_names
from medtl.errors import DataError

_NAMES = ("case", "id")


_TARGETS = ("label", "seg", "target")


_CLASSES = ("class", "label")


_FACTS = ("patient", "site", "part", "fold")


_MASK = "mask"


Row = tuple[int, dict[str, str]]  #: line in the file, cells by column


def read_table(path: Path, *, classes: bool = False) -> Listing:
    """Columns ``case`` (or ``id``), ``label`` (or ``seg``, ``target``), ``patient``, ``site``,
    ``part``, ``fold``, and one per modality; a column without any .nii path is left out.

    With ``classes`` the column ``class`` (or ``label``) names each case's class, pictures count as
    images, and ``mask`` may hold paths of images that show where the class is seen.

    Raises:
        DataError: no such columns, a row that does not fit them, or a path that leads nowhere.
    """
    columns, rows = _rows(path)
    name = _one(path, columns, _NAMES)
    if name is None:
        raise DataError(f"{path}: has no column case or id; it has {', '.join(columns)}")
    target = _one(path, columns, _CLASSES if classes else _TARGETS)
    is_image, kinds = (is_any_image, ".png, .nii.gz, ...") if classes else (is_nifti, ".nii.gz")
    masks = (_MASK,) if classes else ()
    others = [c for c in columns if c not in (name, target, *_FACTS, *masks)]
    images = [c for c in others if any(is_image(row[c]) for _, row in rows)]
    if not images:
        raise DataError(f"{path}: no column holds paths of images ({kinds}); name one per modality")
    left_out = [column for column in others if column not in images]
    notes = [f"columns without image paths, left out: {', '.join(left_out)}"] if left_out else []
    listing = Listing(
        path,
        tuple(_entry(path, line, row, name, target, images, classes) for line, row in rows),
        channel_names(images, path),
        notes=tuple(notes),
    )
    if target is None:
        lacking = "class" if classes else "label, seg or target: paths of labels"
        return replace(listing, unlabelled=f"has no column {lacking}")
    return listing


def _rows(path: Path) -> tuple[list[str], list[Row]]:
    """Column names in lower case, and the rows, blank ones left out."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            mark = max(",;\t", key=header.count)
            lines = csv.reader(stream, delimiter=mark, strict=True)
            table = [(lines.line_num, [cell.strip() for cell in cells]) for cells in lines]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    table = [(line, cells) for line, cells in table if any(cells)]
    if len(table) < 2:
        raise DataError(f"{path}: lists no cases")
    columns = [cell.lower() for cell in table[0][1]]
    if "" in columns or len(set(columns)) < len(columns):
        raise DataError(f"{path}: every column needs a name of its own, not {', '.join(columns)}")
    rows = []
    for line, cells in table[1:]:
        if len(cells) != len(columns):
            raise DataError(
                f"{path} line {line}: has {len(cells)} cells, the header {len(columns)}"
            )
        rows.append((line, dict(zip(columns, cells, strict=True))))
    return columns, rows


def _one(path: Path, columns: Sequence[str], names: Sequence[str]) -> str | None:
    own = [column for column in columns if column in names]
    if len(own) > 1:
        raise DataError(f"{path}: both {own[0]} and {own[1]} could be meant; rename one column")
    return own[0] if own else None


def _entry(
    path: Path,
    line: int,
    row: Mapping[str, str],
    name: str,
    target: str | None,
    images: Sequence[str],
    classes: bool,
) -> Entry:
    where = f"{path} line {line}"
    fold = row.get("fold", "")
    if fold and not fold.isdecimal():
        raise DataError(f"{where}: fold {fold!r} must be a number from 0 on")
    return Entry(
        row[name],
        {n: existing(path.parent, row[c], where) for n, c in enumerate(images) if row[c]},
        where,
        existing(path.parent, row[target], where)
        if target and row[target] and not classes
        else None,
        packed=classes and len(images) == 1,
        patient=row.get("patient", ""),
        site=row.get("site", ""),
        part=row.get("part", ""),
        fold=int(fold) if fold else None,
        class_name=row[target] if target and classes else "",
        mask=existing(path.parent, row[_MASK], where) if classes and row.get(_MASK) else None,
    )
