"""Which column of a table says what: the case, its patient, site, part and fold, by many names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtl.data.formats.cells import stated
from medtl.data.formats.parts import kind_of, words_of
from medtl.errors import DataError, near_or_known

PATIENT, SITE, PART, FOLD = "patient", "site", "part", "fold"

#: Other names of a fact, without blanks and other marks.
_ALIASES = {
    PATIENT: frozenset(
        f"{word}{end}"
        for word in ("patient", "subject", "subj", "participant", "person", "individual", "donor",
                     "proband", "animal", "volunteer", "pat")
        for end in ("", "s", "id", "ids", "name", "no", "nr", "number", "num", "code", "key", "uid",
                    "identifier", "index")
    ) | {"pid", "ptid", "ptno", "mrn", "medicalrecordnumber", "anonid", "pseudonym", "eid"},
    SITE: frozenset(
        f"{start}{word}{end}"
        for start in ("", "imaging", "acquisition", "scan", "data", "study", "recruiting",
                      "recruitment", "source")
        for word in ("site", "hospital", "centre", "center", "institution", "institute", "clinic",
                     "facility")
        for end in ("", "s", "id", "ids", "name", "no", "nr", "number", "code", "key", "uid")
    ),
    PART: frozenset(
        ("part", "split", "splits", "subset", "partition", "set", "datasplit", "splitname",
         "dataset", "datasetsplit", "traintest", "trainvaltest", "trainortest", "usage", "phase",
         "mode", "group", "cohort", "fold", "tvt", "splitset", "datapart", "datasubset")
    ),
    FOLD: frozenset(
        ("fold", "folds", "foldid", "foldno", "foldnr", "foldnumber", "foldindex", "kfold",
         "cvfold", "crossvalidationfold", "cvfolds")
    ),
}  # fmt: skip

#: These name a part, whatever their cells are.
_SURELY_PART = frozenset(("part", "split", "splits", "partition", "datasplit", "splitname"))

#: Yes or no to a part.
_IS_PART = re.compile(
    r"(is|in|for)?(train|training|val|valid|validation|test|testing|holdout)(set|ing|split|data)?"
)

_LIKE_PATIENT = re.compile(r"(.*)(patient|subject|participant|proband|mrn(?!a))(.*)")
_LIKE_SITE = re.compile(r"(.*)(hospital|institution|institute)(.*)")

#: What a column that speaks of patients or hospitals tells instead of who they are.
_OTHER_FACTS = re.compile(
    r"age|sex|gender|weight|height|bmi|birth|dob|date|time|days|stay|position|orient|race|ethnic|"
    r"status|history|comment|note|count|size|type|diagnos|group|ive|^(in|out|n|num|number|numberof)$|i[sz]ed|i[sz]ation|"
    r"mort|admi|dischar|score|response|survival|follow|volume|country|comfort|motion|consent"
)

_YES_OR_NO = frozenset(("0", "1", "0.0", "1.0", "true", "false", "yes", "no", "y", "n", "t", "f"))

Rows = Sequence[Mapping[str, str]]


@dataclass(slots=True)
class Facts:
    """The column of each fact that a table states, and what the user should know of them."""

    columns: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, row: Mapping[str, str], fact: str) -> str:
        """What a row states; "" where it states nothing."""
        return stated(row[self.columns[fact]]) if fact in self.columns else ""


def plain(name: str) -> str:
    """``Patient ID`` and ``patient_id`` -> ``patientid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


def without_ignored(where: Path, names: Sequence[str], ignored: Sequence[str]) -> list[str]:
    """The columns but those that ``--ignore-column`` names. DataError for one that is not there."""
    left_out = {name.strip().casefold() for name in ignored}
    for name in sorted(left_out - {column.casefold() for column in names}):
        raise DataError(
            f"{where}: --ignore-column {name}: no such column; {near_or_known(name, names)}"
        )
    return [column for column in names if column.casefold() not in left_out]


def facts_in(where: Path, names: Sequence[str], rows: Rows, taken: Sequence[str]) -> Facts:
    """Find the columns of patient, site, part and fold, by their names or known aliases.

    Args:
        taken: columns that say something else: the case, its class, its images.

    Raises:
        DataError: two columns could be meant, or one looks like a fact and is not understood.
    """
    found = Facts()
    free = [name for name in names if name not in taken]
    for fact in (PATIENT, SITE, FOLD, PART):
        candidates = [name for name in free if _may_say(fact, name, rows)]
        if not candidates:
            continue
        exact = [name for name in candidates if name.casefold() == fact]
        chosen = (exact or candidates)[0]
        for other in candidates:
            if other != chosen and not _same_groups(fact, chosen, other, rows):
                raise DataError(
                    f"{where}: columns {chosen} and {other} could both say the {fact}, and differ; "
                    f"rename one, or add --ignore-column {other}"
                )
        found.columns[fact] = chosen
        if chosen.casefold() != fact:
            found.notes.append(f"column {chosen} is taken as {fact}")
        free = [name for name in free if name not in candidates]
    for name in free:
        fact = _looks_like(name, rows)
        if fact == PART or (fact and fact not in found.columns):
            raise DataError(
                f"{where}: column {name} looks like {fact} and is not used; call it {fact}, or add "
                f"--ignore-column {name}"
            )
    return found


def _may_say(fact: str, name: str, rows: Rows) -> bool:
    if name.casefold() == fact:
        return True
    if plain(name) not in _ALIASES[fact]:
        return False
    cells = _cells(name, rows)
    if fact == PATIENT and cells and {cell.casefold() for cell in cells} <= _YES_OR_NO:
        return False  # whether one is a patient, not which
    if fact == FOLD:
        return all(re.fullmatch(r"\d{1,9}(\.0*)?", cell) for cell in cells)
    return fact != PART or (bool(cells) and all(map(kind_of, cells)))


def _looks_like(name: str, rows: Rows) -> str:
    short, cells = plain(name), set(_cells(name, rows))
    for fact, pattern in ((PATIENT, _LIKE_PATIENT), (SITE, _LIKE_SITE)):
        match = pattern.fullmatch(short)
        if match and not any(_OTHER_FACTS.search(match[n]) for n in (1, 3)):
            return fact
    if cells and short in _SURELY_PART:
        return PART
    if cells and _IS_PART.fullmatch(short) and {cell.casefold() for cell in cells} <= _YES_OR_NO:
        return PART
    told = {kind_of(cell) for cell in cells if len(words_of(cell)) <= 2}
    return PART if len(told - {""}) > 1 and "" not in told else ""


def _cells(name: str, rows: Rows) -> list[str]:
    return [cell for row in rows if (cell := stated(row[name]))]


def _same_groups(fact: str, one: str, other: str, rows: Rows) -> bool:
    def cell(row: Mapping[str, str], name: str) -> str:
        return kind_of(row[name]) if fact == PART else stated(row[name])

    pairs = {(cell(row, one), cell(row, other)) for row in rows}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
