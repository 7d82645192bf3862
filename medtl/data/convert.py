"""``medtl data convert``: whatever is read -> NIfTI with a table, nnU-Net raw or BIDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medtl.data.case import Cohort
from medtl.data.cohort import refuse_series, report, report_conversion
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.bids import is_bids
from medtl.data.formats.written import LAYOUTS, write_cohort
from medtl.data.info import readers
from medtl.data.modality import parse_series
from medtl.data.task import bound
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import ConfigError, DataError, RunError, near_or_known
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.files import new_folder, real_path, unwritable

if TYPE_CHECKING:
    from medtl.data.dicom.convert import Converted


def convert_data(
    root: Path,
    out: Path,
    to: str,
    catalog: Catalog,
    reporter: Reporter,
    *,
    task: str | None = None,
    labels: str | None = None,
    series: Sequence[str] = (),
) -> Cohort:
    """Write the cases below ``root`` into the new or empty folder ``out``.

    Args:
        to: "nifti", "nnunet" or "bids".
        task: who reads them; None: whichever task does.
        labels: how its label values are to be read.
        series: of DICOM, ``MODALITY=DESCRIPTION`` each.

    Raises:
        ConfigError: an unknown layout.
        DataError: nothing there is read, or the layout cannot hold it.
        RunError: ``out`` holds something, or cannot be written.
    """
    layout = LAYOUTS.get(to)
    if layout is None:
        raise ConfigError(f"--to {to!r}: {near_or_known(to, LAYOUTS)}")
    _check_out(out, root)
    dicom = looks_like_dicom(root)
    _check_options(dicom, {"--labels": labels, "--task": task}, series)
    cohort = _of_dicom(root, series, reporter) if dicom else _of_task(root, catalog, task, labels)
    report(cohort.notes, reporter)
    try:
        with (
            reporter.progress("writing", len(cohort.cases)) as advance,
            new_folder(out) as filling,
        ):
            notes = write_cohort(cohort, layout, filling, advance)
    except OSError as error:
        raise unwritable(out, error) from error
    report(notes, reporter)
    reporter.say(f"{len(cohort.cases)} cases in {out}")
    return cohort


def _check_out(out: Path, root: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already; give a new or empty folder")
    if real_path(out).is_relative_to(real_path(root)):
        raise RunError(f"{out} lies in the input; choose another folder")


def _check_options(dicom: bool, of_labels: Mapping[str, str | None], series: Sequence[str]) -> None:
    """Refuse options that the data have no use for."""
    for option, value in of_labels.items():
        if dicom and value:
            raise ConfigError(f"{option} is not for DICOM, whose segments have names; drop it")
    if not dicom:
        refuse_series(series)


def _of_task(root: Path, catalog: Catalog, task: str | None, labels: str | None) -> Cohort:
    """The cases as the task reads them that finds labels or classes.

    Raises:
        DataError: none does, and the one that reads label maps says what is wrong with them.
    """
    found = readers(root, catalog, task, labels)
    problem = found.problems.get("segmentation")
    if problem and is_bids(root):  # other tasks would read it without its masks
        raise DataError(problem)
    labelled = (each for _, each in found.cohorts if any(case.labelled for case in each.cases))
    return next(labelled, found.cohorts[0][1])


def _of_dicom(root: Path, series: Sequence[str], reporter: Reporter) -> Cohort:
    """The studies of a folder with every contrast that their headers tell, or that is named, and
    with the label maps of their segmentations."""
    done, cohort = studies_as_cases(root, series)
    report_conversion(done, reporter)
    return replace(cohort, root=root, failed=done.failed)


def studies_as_cases(
    root: Path, series: Sequence[str] = (), *, own_grids: bool = False
) -> tuple[Converted, Cohort]:
    """Every study of a folder, converted in the cache, and the cases of that folder.

    Args:
        own_grids: leave each image on its own grid.

    Raises:
        DataError: no DICOM, or no study that can be read.
    """
    from medtl.data.dicom.convert import convert_studies
    from medtl.data.dicom.joined import LIST
    from medtl.data.dicom.label_maps import LabelMaps

    task = Segmentation()
    done = convert_studies(
        root,
        None,
        (),
        task.image_path,
        parse_series(series),
        whole=False,
        listing=LIST,
        labels=LabelMaps(task.target_path, needed=False),
        own_grids=own_grids,
    )
    listed = bound(task.for_images(), done.folder)
    return done, listed.cases(done.folder, need_target=False)
