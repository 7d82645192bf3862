"""The cases of a task under a folder, and the checks of their headers and labels.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl.data.case import Case, Cohort
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.label_names import recorded_channels, recorded_regions
from medtl.data.io.geometry import Header, check_same_grid
from medtl.data.io.images import read_header
from medtl.data.modality import Modality
from medtl.data.phantom.cohort import DEFAULTS, default_phantom, own_phantom, read_index
from medtl.data.task import Task, bound, choose_protocol
from medtl.errors import ConfigError, DataError, shortened
from medtl.runtime.console import Reporter

if TYPE_CHECKING:
    from medtl.data.dicom.convert import Converted
    from medtl.data.dicom.label_maps import LabelMaps


def region_masks(
    labels_IJK: np.ndarray[Any, Any], case: Case, regions: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Label values -> one mask per region (LIJK), by the case's own label scheme.

    A region that the case does not annotate is empty.
    """
    return np.stack([np.isin(labels_IJK, case.values_of(name)) for name in regions])


def unknown_masks(
    labels_IJK: np.ndarray[Any, Any], case: Case, regions: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Where nobody looked for each region (LIJK); None where all of the truth is known."""
    if not case.partial:
        return None
    ignored_IJK = np.isin(labels_IJK, case.ignored)
    return np.stack([ignored_IJK | (name in case.unannotated) for name in regions])


def check_case(case: Case, modalities: Sequence[Modality]) -> dict[str, Header]:
    """Read the headers a case needs and refuse missing modalities and mixed grids."""
    missing = [name for name in modalities if name not in case.images]
    if missing:
        raise DataError(
            f"{case.id}: no {', '.join(missing)} image, only {', '.join(case.images)}; add it, or "
            "leave the case out"
        )
    headers: dict[str, Header] = {name: read_header(case.images[name]) for name in modalities}
    if case.target is not None:
        headers["segmentation"] = read_header(case.target)
    check_same_grid(case, headers)
    return headers


def open_cohort(
    task: Task,
    data: Path | None,
    reporter: Reporter,
    protocol: str | None = None,
    *,
    names: Mapping[str, Any] | None = None,
    divided: bool = True,
    ignored: Sequence[str] = (),
    series: Mapping[str, str] | None = None,
    whole_studies: bool = True,
    partial: bool = False,
    segmented: bool = False,
    own_grids: bool = False,
    **options: Any,
) -> Cohort:
    """The cases under ``data``, with the reader's notes reported.

    Args:
        task: as its plugin offers it, or bound to the data already.
        data: None: the built-in phantom cohort, or the task's own; a line says which.
        protocol: how the task divides its patients; None: its default.
        names: what a checkpoint calls the data, for data that name nothing themselves.
        divided: False: every case, whatever protocols the task has.
        ignored: columns of a table to leave out.
        series: of DICOM, modality -> description; see
            :func:`medtl.data.dicom.study.read_studies`.
        whole_studies: leave out studies in DICOM that lack a ``required`` modality.
        segmented: read the segmentations of studies in DICOM also where no target is needed.
        own_grids: leave images in DICOM on their own grids.
        partial: cases may lack some of the ``required`` modalities, and so may studies.
        options: ``labels``, ``required`` and ``need_target`` of :meth:`Task.cases`.

    Raises:
        ConfigError: the task does not have the protocol.
        DataError: cases are missing or cannot be read.
    """
    required = options.get("required")
    whole = required is not None and whole_studies and not partial
    if series and (data is None or not looks_like_dicom(data)):
        refuse_series(series)
    converted = _converted(
        task,
        data,
        names,
        required,
        series,
        whole=whole,
        options=options,
        segmented=segmented,
        own_grids=own_grids,
    )
    if partial:
        options["required"] = ()
    if converted is not None:
        report_conversion(converted, reporter)
        data = converted.folder
    task = bound(task, data, options.get("labels"), names, ignored, series)
    chosen = choose_protocol(task, protocol) if divided else None
    if chosen is not None:
        options |= {"protocol": chosen, "reporter": reporter}
    if data is None:
        data = _phantom_of(task, reporter)
    cohort = task.cases(data, **options)
    if converted is not None:
        cohort = converted.placed(cohort)
    else:
        report_failed(cohort.failed, reporter)
    if not cohort.synthetic and read_index(data).get("synthetic"):  # whatever the task says
        cohort = replace(cohort, synthetic=True)
    if chosen is not None:
        reporter.say(f"protocol {chosen}: {task.protocols[chosen]}")
    report((*cohort.notes, cohort.leak if divided else ""), reporter)
    return cohort


def _converted(
    task: Task,
    data: Path | None,
    names: Mapping[str, Any] | None,
    required: Sequence[str] | None,
    series: Mapping[str, str] | None,
    *,
    whole: bool,
    options: Mapping[str, Any],
    segmented: bool,
    own_grids: bool,
) -> Converted | None:
    """Studies in DICOM as a folder of NIfTI files that the task reads.

    Returns:
        None: other data, or the task looks itself what the studies show.
    """
    takes = isinstance(task, Task) and task.image_path("case", "image", 0) is not None
    if data is None or not takes or not looks_like_dicom(data):
        return None
    channels = recorded_channels(names) if names else getattr(task, "modalities", ())
    if not channels and task.target_path("case") is not None:
        return None
    if not channels:
        raise DataError(
            f"{data}: is DICOM, and nothing says which series are needed; use medtl data convert"
        )
    for name in series or ():
        if name not in channels:
            raise ConfigError(f"--series {name}=...: no modality {name} is needed, but {channels}")
    needed, maps = options.get("need_target", True), None
    if segmented or needed:
        maps = _label_maps(task, data, names, needed, options.get("labels"))
    from medtl.data.dicom.convert import convert_studies

    def place(case: str, modality: str, number: int) -> str:
        return task.image_path(case, modality, number) or ""

    return convert_studies(
        data,
        required or channels,
        channels,
        place,
        series,
        whole=whole,
        listing=task.dicom_list,
        labels=maps,
        own_grids=own_grids,
    )


def _label_maps(
    task: Task, data: Path, names: Mapping[str, Any] | None, needed: bool, labels: str | None
) -> LabelMaps | None:
    """How the segmentations of studies in DICOM become label maps; None for tasks of classes.

    Raises:
        ConfigError: ``--labels``, as label maps are made with values of their own.
        DataError: the task takes no labels from DICOM.
    """
    from medtl.data.dicom.label_maps import LabelMaps, refuse_labels

    if task.target_path("case") is None:
        if task.dicom_list or not needed:
            return None
        raise DataError(f"{data}: is DICOM, of which task {task.name} reads images alone")
    refuse_labels(labels)

    def place(case: str) -> str:
        return task.target_path(case) or ""

    known = tuple(recorded_regions(names).values) if names else ()
    return LabelMaps(place, task.segment_values, known, needed=needed)


def refuse_series(series: object) -> None:
    """Raise ConfigError for ``--series`` beside data that are no DICOM."""
    if series:
        raise ConfigError("--series names series of DICOM; the data are none, so drop it")


def report_conversion(converted: Converted, reporter: Reporter) -> None:
    """Say what became of studies in DICOM; results keep no names of files."""
    report(converted.notes, reporter)
    report_failed(converted.failed, reporter)
    for name, why in converted.unlabelled.items():
        reporter.warn(why, kept=f"{name}: its segmentation is not used")
    if converted.unread:
        count = f"{len(converted.unread)} files are not read"
        reporter.warn(f"{count}: {shortened(converted.unread)}", kept=count)


def report_failed(failed: Mapping[str, str], reporter: Reporter) -> None:
    """Say which studies in DICOM are left out, and why; results keep no names of files."""
    for name, why in failed.items():
        reporter.warn(f"left out: {why}", kept=f"left out: {name}")


def report(notes: Sequence[str], reporter: Reporter) -> None:
    """Say what the user should know of a cohort."""
    for note in notes:
        if note.startswith("warning: "):
            reporter.warn(note.removeprefix("warning: "))
        elif note:
            reporter.say(note)


def _phantom_of(task: Task, reporter: Reporter) -> Path:
    """The task's own synthetic cohort, or the built-in one of its layout; says which."""
    if task.write_phantom is not None:
        reporter.say(f"No --data given: using the synthetic phantom cohort of task {task.name}.")
        return own_phantom(task.name, task.write_phantom)
    reporter.say("No --data given: using the built-in synthetic phantom cohort.")
    with reporter.progress("making the phantom", DEFAULTS[task.phantom].cases) as advance:
        return default_phantom(lambda done, total: advance(done), task.phantom)
