"""A table of cases: one row per case, a column of paths per modality."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl.data.formats.case_list import (
    ANNOTATED,
    Entry,
    Listing,
    annotated_regions,
    existing,
    is_any_image,
    is_nifti,
)
from medtl.data.formats.cells import is_missing, stated
from medtl.data.formats.columns import (
    FOLD,
    PART,
    PATIENT,
    SITE,
    Facts,
    facts_in,
    plain,
    without_ignored,
)
from medtl.data.formats.label_names import channel_names
from medtl.data.formats.masks import says_mask
from medtl.data.formats.text import read_text
from medtl.errors import DataError

_NAMES = ("case", "id")

#: Other names of the case, without blanks and other marks.
_NAME_ALIASES = frozenset(
    ("caseid", "casename", "imageid", "imagename", "scanid", "studyid", "examid", "recordid", "uid")
)

#: Beside a patient these tell cases apart.
_SESSIONS = frozenset(("session", "sessionid", "visit", "visitid", "timepoint", "scandate"))

_TARGETS = ("label", "seg", "target")

_CLASSES = ("class", "label")

_MASK = "mask"

Row = tuple[int, dict[str, str]]  #: line in the file, cells by column


@dataclass(frozen=True, slots=True)
class _Columns:
    """What each column of a table says."""

    name: tuple[str, ...]  #: its cells, joined by "_", are the case
    target: str | None  #: of paths of segmentations
    class_name: str | None
    mask: str | None  #: of paths of images that show where a class is seen
    annotated: str | None  #: of the regions that were looked for
    images: tuple[str, ...]
    facts: Facts
    classes: bool


def read_table(path: Path, *, classes: bool = False, ignored: Sequence[str] = ()) -> Listing:
    """Columns ``case`` (or ``id``), ``label`` (or ``seg``, ``target``), ``patient``, ``site``,
    ``part``, ``fold`` or their aliases, and one per modality; a column without any image path is
    left out. ``annotated`` names the regions that were looked for in a case, as in ``TC+ET``; where
    it is empty, all were.

    With ``classes`` the column ``class`` (or ``label``) names each case's class, pictures count as
    images, and ``mask`` may hold paths of images that show where the class is seen.

    Args:
        ignored: columns to leave out, as ``--ignore-column`` names them.

    Raises:
        DataError: no such columns, a row that does not fit them, a path that leads nowhere, or a
            column that looks like patient, site or part and is not used.
    """
    every, rows = read_rows(path)
    notes: list[str] = []
    names = without_ignored(path, every, ignored)
    columns = _understood(path, names, rows, classes, notes)
    notes += _not_used(columns, names, rows)
    lacking = "class" if classes else "label, seg or target: paths of labels"
    known = columns.class_name if classes else columns.target
    unlabelled = f"has no column {lacking}" if known is None else f"column {known} is empty"
    return Listing(
        path,
        tuple(_entry(path, line, row, columns) for line, row in rows),
        channel_names(list(columns.images), path),
        notes=tuple(notes),
        unlabelled=unlabelled,
    )


def _not_used(columns: _Columns, names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Notes on columns that are left out, and on words that state no class or patient."""
    used = {*columns.name, columns.target, columns.class_name, columns.mask, columns.annotated}
    used |= {*columns.images, *columns.facts.columns.values()}
    left_out = [column for column in names if column not in used]
    notes = [f"columns without image paths, left out: {', '.join(left_out)}"] if left_out else []
    meant = [columns.class_name, columns.facts.columns.get(PATIENT)]
    for column in filter(None, meant):
        words = sorted({row[column] for _, row in rows if row[column] and not stated(row[column])})
        if words:
            notes.append(f"warning: in column {column} {', '.join(words)} means: not known")
    return notes


def _understood(
    path: Path, names: Sequence[str], rows: Sequence[Row], classes: bool, notes: list[str]
) -> _Columns:
    name = _one(path, names, _NAMES)
    label = _one(path, names, _CLASSES if classes else _TARGETS)
    is_image, kinds = (is_any_image, ".png, .nii.gz, ...") if classes else (is_nifti, ".nii.gz")
    mask = _MASK if classes and _MASK in names else None
    annotated = ANNOTATED if ANNOTATED in names and not classes else None
    cells = [row for _, row in rows]
    free = [c for c in names if c not in (name, label, mask, annotated)]
    images = [c for c in free if any(is_image(row[c]) for row in cells)]
    masks = [c for c in images if says_mask(c)]
    if masks and len(masks) < len(images):
        images = [c for c in images if c not in masks]
        taken = mask if classes else label
        if taken or len(masks) > 1:
            raise DataError(
                f"{path}: column {masks[0]} looks like masks, not images; rename it, or add "
                f"--ignore-column {masks[0]}"
            )
        notes.append(f"column {masks[0]} is taken as {'mask' if classes else 'label'}")
        mask, label = (masks[0], label) if classes else (None, masks[0])
    if not images:
        raise DataError(
            f"{path}: no column holds paths of images ({kinds}); name one per modality"
            + _dicom(cells)
        )
    facts = facts_in(path, names, cells, [c for c in (name, label, mask, annotated, *images) if c])
    notes += facts.notes
    return _Columns(
        (name,) if name else _named_by(path, names, cells, facts, notes),
        None if classes else label,
        label if classes else None,
        mask,
        annotated,
        tuple(images),
        facts,
        classes,
    )


def _dicom(rows: Sequence[Mapping[str, str]]) -> str:
    if any(cell.lower().endswith(".dcm") for row in rows for cell in row.values()):
        return "; DICOM is converted to NIfTI first, by medtl data convert or dcm2niix"
    return ""


def _named_by(
    path: Path,
    names: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    facts: Facts,
    notes: list[str],
) -> tuple[str, ...]:
    """The columns that name the cases where none is called case or id."""
    aliases = [c for c in names if plain(c) in _NAME_ALIASES]
    patient = facts.columns.get(PATIENT)
    sessions = [c for c in names if plain(c) in _SESSIONS]
    choices: list[tuple[str, ...]] = [*((c,) for c in aliases)]
    if patient:
        choices += [(patient,), *((patient, c) for c in sessions)]
    for chosen in choices:
        cells = [tuple(stated(row[c]) for c in chosen) for row in rows]
        if all(map(all, cells)) and max(Counter(cells).values()) == 1:
            notes.append(f"cases are called by {' and '.join(chosen)}")
            return chosen
    repeated = f" (rows share {' and '.join(choices[-1])})" if choices else ""
    raise DataError(f"{path}: has no column case or id{repeated}; it has {', '.join(names)}")


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Column names in lower case, and the rows, blank ones left out."""
    text = read_text(path)
    given = re.match(r"sep=(.)\r?\n", text)  # as spreadsheets write it
    text = text[given.end() :] if given else text
    try:
        mark = given[1] if given else _separator(text)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        first = 1 if given else 0
        table = [(lines.line_num + first, [cell.strip() for cell in cells]) for cells in lines]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    table = [(line, cells) for line, cells in table if any(cells)]
    if len(table) < 2:
        raise DataError(f"{path}: lists no cases")
    header = [cell.casefold() for cell in table[0][1]]
    for line, cells in table[1:]:
        if len(cells) != len(header):
            raise DataError(f"{path} line {line}: has {len(cells)} cells, the header {len(header)}")
    kept = [n for n, name in enumerate(header) if not _is_index(name, n, table[1:])]
    columns = [header[n] for n in kept]
    if "" in columns or len(set(columns)) < len(columns):
        raise DataError(f"{path}: every column needs a name of its own, not {', '.join(columns)}")
    return columns, [(line, {header[n]: cells[n] for n in kept}) for line, cells in table[1:]]


def _separator(text: str) -> str:
    """The mark that divides the header into the most cells."""
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return max(",;\t|", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _is_index(name: str, place: int, rows: Sequence[tuple[int, Sequence[str]]]) -> bool:
    """Whether a column is what pandas writes as the row's number, or has no name and no cells."""
    cells = [cells[place] for _, cells in rows]
    if name and not re.fullmatch(r"unnamed: \d+", name):
        return False
    return not any(cells) or (place == 0 and all(cell.isdecimal() for cell in cells))


def _one(path: Path, columns: Sequence[str], names: Sequence[str]) -> str | None:
    own = [column for column in columns if column in names]
    if len(own) > 1:
        raise DataError(f"{path}: both {own[0]} and {own[1]} could be meant; rename one column")
    return own[0] if own else None


def _entry(path: Path, line: int, row: Mapping[str, str], columns: _Columns) -> Entry:
    where = f"{path} line {line}"

    def file(column: str | None) -> Path | None:
        missing = column is None or is_missing(row[column])
        return None if missing else existing(path.parent, row[column or ""], where)

    found = {n: file(c) for n, c in enumerate(columns.images)}
    images = {n: image for n, image in found.items() if image}
    target = file(columns.target)
    facts = columns.facts
    return Entry(
        "_".join(stated(row[c]) for c in columns.name),
        images,
        where,
        target,
        packed=columns.classes and len(columns.images) == 1,
        patient=facts.of(row, PATIENT),
        site=facts.of(row, SITE),
        part=facts.of(row, PART),
        fold=_fold(facts.of(row, FOLD), where),
        class_name=stated(row[columns.class_name]) if columns.class_name else "",
        mask=file(columns.mask),
        annotated=annotated_regions(row[columns.annotated], where) if columns.annotated else (),
    )


def _fold(text: str, where: str) -> int | None:
    if not text:
        return None
    number = re.fullmatch(r"([0-9]{1,9})(\.0*)?", text)
    if number is None:
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        raise DataError(f"{where}: fold {shown!r} must be a number from 0 on")
    return int(number[1])
