"""What a folder holds: its series of DICOM, or its cases as a task reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medtl.data.case import Case, Cohort
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.bids import is_bids
from medtl.data.task import bound
from medtl.errors import DataError, MedtlError, shortened
from medtl.plugins.catalog import Catalog
from medtl.runtime.parallel import in_threads

#: Tasks that read whatever lists its cases, and so come after those of one data set.
_ANY = ("segmentation", "classification")


class Described(NamedTuple):
    """What was found; see :class:`medtl.api.DataInfo`."""

    format: str
    tasks: tuple[str, ...]
    listed: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    synthetic: bool


def describe_data(
    root: Path, catalog: Catalog, task: str | None = None, *, paths: bool = False
) -> Described:
    """The series or cases below a folder, or in a list, a table or an archive.

    Args:
        task: who reads it; None: whichever task does, brats and the like before those that read
            any list.
        paths: of DICOM, where the first file of each series lies.

    Raises:
        DataError: nothing there is read; says what each task misses.
    """
    if looks_like_dicom(root):
        return _dicom(root, paths)
    found = readers(root, catalog, task).cohorts
    first = found[0][1]
    rows = tuple(in_threads(_case, first.cases))
    names = tuple(name for name, _ in found)
    return Described("cases", names, rows, first.notes, first.synthetic)


@dataclass(frozen=True, slots=True)
class Readers:
    """The tasks that read some data with the cases they find, and why others do not."""

    cohorts: tuple[tuple[str, Cohort], ...]
    problems: Mapping[str, str]


def is_listed(root: Path) -> bool:
    """Whether a list, a table or a description says which cases there are."""
    if root.is_file() or is_bids(root):
        return True
    return any((root / name).is_file() for name in ("dataset.json", "cases.csv"))


def readers(
    root: Path, catalog: Catalog, task: str | None = None, labels: str | None = None
) -> Readers:
    """The tasks that read a folder, a list or a table.

    Raises:
        UnknownNameError: there is no such task.
        DataError: none does; says what each misses.
    """
    if root.is_dir() and not any(root.iterdir()):
        raise DataError(f"{root}: is an empty folder")
    names = [task] if task else sorted(catalog.tasks, key=_first if is_listed(root) else _last)
    offers = {name: catalog.tasks[name] for name in names}
    cohorts: list[tuple[str, Cohort]] = []
    problems: dict[str, str] = {}
    for name, offer in offers.items():
        try:
            reader = offer.load()()
            if labels is None:
                reader = reader.for_images()
            cohort = bound(reader, root, labels).cases(root, labels=labels, need_target=False)
            cohorts.append((_plain(name), cohort))
        except MedtlError as error:
            problems[_plain(name)] = str(error)
    if cohorts:
        return Readers(tuple(cohorts), problems)
    if len(problems) == 1 or is_listed(root):
        raise DataError(problems.get("segmentation", next(iter(problems.values()))))
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


def _dicom(root: Path, paths: bool) -> Described:
    from medtl.data.dicom.contrasts import contrast_of
    from medtl.data.dicom.series import find_series, without_names
    from medtl.data.dicom.study import made_up, made_up_patients, uid_of

    found = find_series(root)
    if not found.series:
        raise DataError(f"{root}: no file is an image; not read: {shortened(found.unread)}")
    patients = made_up_patients(found)
    rows = []
    for series in found.series:
        contrast, why = contrast_of(series.acquisition)
        problem = without_names(series.problem or why, series.origin.names)
        stack = series.stacks[0] if series.stacks else None
        rows.append(
            {
                "study": made_up("study", uid_of(series)),
                "patient": patients[uid_of(series)],
                "description": series.description,
                "modality": series.acquisition.modality,
                "shows": "segmentation" if series.is_segmentation else contrast,
                "volumes": len(series.stacks),
                "shape": list(stack.shape) if stack else None,
                "spacing_mm": [round(mm, 4) for mm in stack.spacing_mm] if stack else None,
                "problem": "" if series.is_segmentation else problem,
                "path": str(series.frames[0].file) if paths else "",
            }
        )
    notes = tuple(f"not read: {text}" for text in found.unread)
    return Described("DICOM", (), tuple(rows), notes, False)


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
