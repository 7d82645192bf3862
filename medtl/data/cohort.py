"""Cases -> prepared, cached arrays -> patches whose randomness depends on the sample alone.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl.data.case import Case, Cohort
from medtl.data.io.geometry import Header, check_same_grid
from medtl.data.io.images import read_header
from medtl.data.modality import Modality
from medtl.data.phantom.cohort import BRATS, DEFAULTS, default_phantom, own_phantom, read_index
from medtl.data.task import Task, choose_protocol, protocols_of
from medtl.errors import DataError
from medtl.runtime.console import Reporter


def region_masks(
    labels_IJK: np.ndarray[Any, Any], case: Case, regions: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Label values -> one mask per region (LIJK), by the case's own label scheme."""
    return np.stack([np.isin(labels_IJK, case.regions[name]) for name in regions])


def check_case(case: Case, modalities: Sequence[Modality]) -> dict[str, Header]:
    """Read the headers a case needs and refuse missing modalities and mixed grids."""
    missing = [name for name in modalities if name not in case.images]
    if missing:
        raise DataError(
            f"{case.id}: no {', '.join(missing)} image; it has {', '.join(case.images)}"
        )
    headers: dict[str, Header] = {name: read_header(case.images[name]) for name in modalities}
    if case.target is not None:
        headers["segmentation"] = read_header(case.target)
    check_same_grid(case, headers)
    return headers


def read_cohort(
    task: Task,
    data: Path | None,
    reporter: Reporter,
    protocol: str | None = None,
    **options: Any,
) -> Cohort:
    """The cases under ``data``, or of the built-in phantom cohort; the first line says which.

    Raises ConfigError for a ``protocol`` that the task does not have.
    """
    chosen = choose_protocol(task, protocol)
    if chosen is not None:
        options |= {"protocol": chosen, "reporter": reporter}
    if data is None:
        data = _phantom_of(task, reporter)
    cohort = task.cases(data, **options)
    if not cohort.synthetic and read_index(data).get("synthetic"):  # whatever the task says
        cohort = replace(cohort, synthetic=True)
    if chosen is not None:
        reporter.say(f"protocol {chosen}: {protocols_of(task)[chosen]}")
    for note in (*cohort.notes, cohort.leak):
        if note:
            reporter.say(note)
    return cohort


def _phantom_of(task: Task, reporter: Reporter) -> Path:
    """The task's own synthetic cohort, or the built-in one of its layout; says which."""
    if hasattr(task, "write_phantom"):
        reporter.say(f"No --data given: using the synthetic phantom cohort of task {task.name}.")
        return own_phantom(task.name, task.write_phantom)
    reporter.say("No --data given: using the built-in synthetic phantom cohort.")
    layout = getattr(task, "phantom", BRATS)
    with reporter.progress("making the phantom", DEFAULTS[layout].cases) as advance:
        return default_phantom(lambda done, total: advance(done), layout)
