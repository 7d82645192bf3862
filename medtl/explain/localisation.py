"""Score saliency maps against true masks: pointing game and Dice.

Axes: I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.evaluation.intervals import interval
from medtl.evaluation.metrics import mask_dice
from medtl.evaluation.tables import score_cell
from medtl.runtime.files import write_csv
from medtl.runtime.table import Table

#: Tolerance of the pointing game: pixels of 2-D images (Zhang et al. 2018), otherwise millimetres.
TOLERANCE = 15

#: Every score and its meaning; scores in pixels are for 2-D images, those in mm for others.
SCORES = {
    "pointing": "the map's highest place lies within the mask (pointing game)",
    "pointing_15mm": f"or within {TOLERANCE} mm of it",
    "pointing_15px": f"or within {TOLERANCE} pixels of it, as in Zhang et al.",
    "dice": "Dice of the map, cut at a share of its maximum, and the mask",
    "chance_pointing": "a random place of the image lies within the mask: its share of the image",
    "chance_pointing_15mm": f"or within {TOLERANCE} mm of it",
    "chance_pointing_15px": f"or within {TOLERANCE} pixels of it",
    "centre_pointing": "the middle of the image lies within the mask",
}

#: The scores that are a hit or a miss for each image.
HITS = ("pointing", "pointing_15mm", "pointing_15px", "centre_pointing")

Row = Mapping[str, Any]


def localisation(
    cam_IJK: NDArray[np.floating[Any]],
    mask_IJK: NDArray[np.bool_],
    threshold: float,
    spacing_mm: Sequence[float] | None = None,
) -> dict[str, float]:
    """The :data:`SCORES` of one map against a mask that is not empty, both on one grid.

    Pointing game: Zhang et al. 2016 (2018, 10.1007/s11263-017-1059-x); equal maxima count with
    their mean position. A map of zeros misses, with Dice 0.

    Args:
        threshold: share of its maximum at which the map is cut for Dice.
        spacing_mm: None for 2-D images, whose tolerance is in pixels.
    """
    from scipy.ndimage import distance_transform_edt

    near = "pointing_15px" if spacing_mm is None else "pointing_15mm"
    middle = tuple((n - 1) // 2 for n in mask_IJK.shape)
    near_IJK = distance_transform_edt(~mask_IJK, spacing_mm) <= TOLERANCE
    baselines = {
        "chance_pointing": float(mask_IJK.mean()),
        f"chance_{near}": float(near_IJK.mean()),
        "centre_pointing": float(mask_IJK[middle]),
    }
    highest = float(cam_IJK.max())
    if highest <= 0:
        return {"pointing": 0.0, near: 0.0, "dice": 0.0, **baselines}
    point = tuple(np.argwhere(cam_IJK == highest).mean(0).round().astype(int).tolist())
    return {
        "pointing": float(mask_IJK[point]),
        near: float(near_IJK[point]),
        "dice": mask_dice(cam_IJK >= threshold * highest, mask_IJK),
        **baselines,
    }


def summarise_localisation(rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """``{"images_scored": int, "localisation": {score: interval}, "meaning"}`` of the rows that
    have :data:`SCORES`. Intervals are over patients; the images of each are averaged."""
    scored = [row for row in rows if "dice" in row]
    if not scored:
        return {"images_scored": 0}
    meaning = {score: text for score, text in SCORES.items() if any(score in row for row in scored)}
    by_patient: dict[str, dict[str, list[float]]] = {score: {} for score in meaning}
    for row in scored:
        for score in meaning.keys() & row.keys():
            by_patient[score].setdefault(row["patient"], []).append(row[score])
    intervals = {
        score: interval(own, seed=seed, share=score in HITS).to_json()
        for score, own in by_patient.items()
    }
    return {"images_scored": len(scored), "localisation": intervals, "meaning": meaning}


def localisation_table(summary: Mapping[str, Any]) -> Table:
    """The scores in ``saliency.json`` with their intervals over patients."""
    scores = summary["localisation"]
    rows = tuple(
        (score, str(scores[score]["n"]), score_cell(score, scores[score]))
        for score in summary["meaning"]
    )
    title = (
        f"{summary['stage']}: maps against masks, {summary['images_scored']} of "
        f"{summary['images']} images"
    )
    if summary["synthetic"]:
        title += "; synthetic phantom"
    methods = "; ".join(dict.fromkeys(scores[score]["method"] for score in scores))
    notes = [
        *(f"{score}: {meaning}" for score, meaning in summary["meaning"].items()),
        f"dice: maps are cut at {summary['threshold']:g} of their maximum",
        f"n: patients; 95% intervals: {methods}",
    ]
    if summary["not_scored"]:
        notes.append(f"not scored: {count_reasons(summary['not_scored'])}")
    return Table(title, ("score", "n", "mean [95% interval]"), rows, tuple(notes))


def count_reasons(not_scored: Mapping[str, int]) -> str:
    """``{"seen in training": 1}`` -> ``"1 image seen in training"``."""
    return ", ".join(
        f"{count} image{'s' if count > 1 else ''} {reason}" for reason, count in not_scored.items()
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a line per case; scores without a mask or in the other unit are empty."""
    columns = ["case", "patient", "explained", "predicted", "probability", *SCORES]
    write_csv(path, columns, ([row.get(name, "") for name in columns] for row in rows))
