"""What a folder holds: its series of DICOM, or its cases as a task reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.data.case import Case, Cohort
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.bids import is_bids
from medtl.data.task import bound
from medtl.errors import DataError, MedtlError
from medtl.plugins.catalog import Catalog
from medtl.runtime.parallel import in_threads
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table

#: Rows of a printed table.
MOST_ROWS = 20

#: Tasks that read whatever lists its cases, and so come after those of one data set.
_ANY = ("segmentation", "classification")


@dataclass(frozen=True, slots=True, repr=False)
class DataInfo(Shown):
    """A row per series (DICOM) or case, and the names of the tasks that read the data."""

    path: str
    format: str  #: "DICOM" or "cases"
    tasks: tuple[str, ...]
    listed: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    is_synthetic: bool = False

    @property
    def title(self) -> str:
        what = "series" if self.format == "DICOM" else "cases"
        read = f", read by {', '.join(self.tasks)}" if self.tasks else ""
        return f"{self.path}: {len(self.listed)} {what}{read}"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """As plain data."""
        return [dict(row) for row in self.listed]

    def tables(self) -> list[Table]:
        every = self.rows()
        keys = [key for key in every[0] if any(row[key] not in ("", None) for row in every)]
        if all(row.get("patient") == row.get("case") for row in every):
            keys.remove("patient")
        cells = tuple(tuple(_cell(row[key]) for key in keys) for row in every[:MOST_ROWS])
        notes = self.notes
        if len(every) > MOST_ROWS:
            notes = (f"and {len(every) - MOST_ROWS} more (--json lists all)", *notes)
        return [Table(self.title, tuple(keys), cells, notes)]

    def to_json(self) -> dict[str, Any]:
        """As ``medtl data info --json`` prints it."""
        return {
            "path": self.path,
            "format": self.format,
            "tasks": list(self.tasks),
            "notes": list(self.notes),
            "synthetic": self.is_synthetic,
            "rows": self.rows(),
        }


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(f"{each:.4g}" for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def describe_data(root: Path, catalog: Catalog, task: str | None = None) -> DataInfo:
    """The series or cases below a folder, or in a list, a table or an archive.

    Args:
        task: who reads it; None: whichever task does, brats and the like before those that read
            any list.

    Raises:
        DataError: nothing there is read; says what each task misses.
    """
    if looks_like_dicom(root):
        return _dicom(root)
    found = readers(root, catalog, task)
    first = found[0][1]
    rows = tuple(in_threads(_case, first.cases))
    names = tuple(name for name, _ in found)
    return DataInfo(str(root), "cases", names, rows, first.notes, first.synthetic)


def readers(
    root: Path, catalog: Catalog, task: str | None = None, labels: str | None = None
) -> list[tuple[str, Cohort]]:
    """The tasks that read a folder, a list or a table, each with the cases it finds.

    Raises:
        DataError: none does; says what each misses.
    """
    listed = root.is_file() or is_bids(root) or (root / "dataset.json").is_file()
    names = [task] if task else sorted(catalog.tasks, key=_first if listed else _last)
    cohorts: list[tuple[str, Cohort]] = []
    problems: dict[str, str] = {}
    for name in names:
        try:
            reader = catalog.tasks[name].load()()
            if labels is None:
                reader = reader.for_images()
            cohort = bound(reader, root, labels).cases(root, labels=labels, need_target=False)
            cohorts.append((_plain(name), cohort))
        except MedtlError as error:
            problems[_plain(name)] = str(error)
    if cohorts:
        return cohorts
    if len(problems) == 1:
        raise DataError(next(iter(problems.values())))
    lines = (f"{name}: {why.removeprefix(f'{root}: ')}" for name, why in problems.items())
    raise DataError(f"{root}: no task reads it ({'; '.join(lines)})")


def _plain(name: str) -> str:
    """``brats:brats`` -> ``brats``"""
    return name.rpartition(":")[2]


def _first(name: str) -> int:
    """Where a list names the cases, who reads any list comes first."""
    return _ANY.index(_plain(name)) if _plain(name) in _ANY else len(_ANY)


def _last(name: str) -> int:
    return 1 + _ANY.index(_plain(name)) if _plain(name) in _ANY else 0


def _dicom(root: Path) -> DataInfo:
    from medtl.data.dicom.contrasts import contrast_of
    from medtl.data.dicom.series import find_series, without_names
    from medtl.data.dicom.study import made_up

    found = find_series(root)
    rows = []
    for series in found.series:
        contrast, why = contrast_of(series.acquisition)
        stack = series.stacks[0] if series.stacks else None
        rows.append(
            {
                "study": made_up("study", series.origin.study or series.origin.patient),
                "patient": made_up("patient", series.origin.patient),
                "description": series.description,
                "modality": series.acquisition.modality,
                "shows": contrast,
                "volumes": len(series.stacks),
                "shape": list(stack.shape) if stack else None,
                "spacing_mm": [round(mm, 4) for mm in stack.spacing_mm] if stack else None,
                "problem": without_names(series.problem or why, series.origin.names),
            }
        )
    notes = tuple(f"not read: {text}" for text in found.unread)
    return DataInfo(str(root), "DICOM", (), tuple(rows), notes)


def _case(case: Case) -> dict[str, Any]:
    from medtl.data.io.images import read_header

    header = read_header(next(iter(case.images.values())))
    return {
        "case": case.id,
        "patient": case.patient,
        "site": case.site,
        "part": case.part,
        "images": ", ".join(case.images),
        "shape": list(header.shape),
        "spacing_mm": [round(mm, 4) for mm in header.spacing_mm],
        "type": str(header.dtype),
        "labelled": case.labelled,
        "class": case.class_name,
    }
