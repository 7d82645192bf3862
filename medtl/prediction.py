"""``medtl predict``: a folder of cases -> label maps in each case's native grid.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.console import Reporter
from medtl.errors import DataError, RunError
from medtl.io.nifti import read_header, write_nifti
from medtl.task import Task
from medtl.trained import Trained


def predict_folder(
    trained: Trained,
    task: Task,
    inputs: Path,
    out: Path,
    labels: str | None,
    reporter: Reporter,
) -> list[Path]:
    """Segment every case under ``inputs`` into ``out/<case>.nii.gz``; each is written whole."""
    recipe = trained.predictor.recipe
    cohort = task.cases(inputs, labels=labels, required=recipe.modalities, need_target=False)
    for note in cohort.notes:
        reporter.say(note)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(f"cannot make {out}: {problem.strerror}; choose another --out") from problem
    if trained.synthetic and not cohort.synthetic:
        reporter.say("this model was trained on the synthetic phantom alone")
    reporter.say(f"{trained.stage}: {', '.join(recipe.modalities)} -> {', '.join(recipe.regions)}")
    written = []
    read = {file.path.resolve() for case in cohort.cases for file in case.images.values()}
    with reporter.progress("predicting", len(cohort.cases)) as advance:
        for done, case in enumerate(cohort.cases, 1):
            if not case.regions:
                raise DataError(f"{case.id}: no label scheme is known for it; name one by --labels")
            masks_LIJK = trained.predictor.masks(recipe(case, with_target=False))
            header = read_header(case.images[recipe.modalities[0]])
            target = out / f"{case.id}.nii.gz"
            if target.resolve() in read:
                raise RunError(f"{target} is an input; choose another --out")
            label_map = paint(masks_LIJK, recipe.regions, case.regions)
            write_nifti(target, label_map, header.affine, like=header.path)
            written.append(target)
            advance(done, case.id)
    reporter.say(f"{len(written)} label maps in {out}")
    return written


def paint(
    masks_LIJK: NDArray[np.bool_], regions: Sequence[str], values: Mapping[str, Sequence[int]]
) -> NDArray[Any]:
    """Region masks -> label values (uint8): later regions are painted over the ones that hold
    them, each with the first of its values that no later region has."""
    label_IJK = np.zeros(masks_LIJK.shape[1:], dtype=np.uint8)
    for index, (region, mask_IJK) in enumerate(zip(regions, masks_LIJK, strict=True)):
        inner = {value for later in regions[index + 1 :] for value in values[later]}
        own = [value for value in values[region] if value not in inner]
        label_IJK[mask_IJK] = (own or list(values[region]))[0]
    return label_IJK
