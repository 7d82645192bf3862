"""Scores of one case on its native grid, and their summary over patients.

A missed or an invented structure counts as a failure. No case is left out of a mean, but of that of
a region which nobody looked for in it.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.geometry import fill
from medtl.data.io.grids import bounding_box
from medtl.errors import DataError
from medtl.evaluation.intervals import interval
from medtl.evaluation.lesions import Mask, lesion_metrics
from medtl.evaluation.surfaces import diagonal_mm, surface_scores
from medtl.evaluation.tables import REGION_METRICS
from medtl.runtime.files import write_csv

#: One case and region: ``case``, ``patient``, ``region``, ``metrics`` and other keys (``stage``).
Row = Mapping[str, Any]


#: Every metric and its range.
BOUNDS = {
    name: (0.0, math.inf if name.endswith(("_mm", "_ml", "_lesions", "_error")) else 1.0)
    for name in REGION_METRICS
}


def case_metrics(
    prediction_LIJK: NDArray[Any],
    truth_LIJK: NDArray[Any],
    spacing_mm: Sequence[float],
    regions: Sequence[str],
    tolerance_mm: float = 1.0,
    sheared_mm: NDArray[np.float64] | None = None,
    ignored_IJK: Mask | None = None,
) -> dict[str, dict[str, float]]:
    """Every metric of :data:`BOUNDS` for each region; both arrays are masks (bool or 0/1).

    ``hd95_mm`` is the larger of the two directed 95th percentiles (linear interpolation) of the
    distances from each surface voxel of one mask to the nearest surface voxel of the other.
    Surface voxels are those of the mask that its erosion by a 6-neighbourhood removes; outside the
    volume is background. ``surface_dice`` is the share of all surface voxels within
    ``tolerance_mm`` of the other surface (Nikolov et al. 2021, with voxels for areas). Lesions:
    see :mod:`medtl.evaluation.lesions`. ``volume_error_ml`` is the absolute difference of the
    volumes, ``relative_volume_error`` that difference over the true volume.

    If truth and prediction are both empty, the score is perfect (distance and errors 0). If one is
    empty, it is a complete failure: overlaps, sensitivity and precision 0, ``hd95_mm`` the diagonal
    of the image in mm, and ``relative_volume_error`` 1.

    ``sheared_mm``: the steps of I, J and K in mm (columns) where they are not perpendicular
    (:attr:`medtl.data.io.geometry.Header.sheared_mm`). Volumes and distances are then those of the
    sheared grid; the lesions' dilation goes along its axes.

    ``ignored_IJK``: voxels that nobody labelled. They are background in both masks and counted in
    no volume, and the image is the box around the others.

    Raises:
        DataError: prediction and truth lie on different grids.
    """
    pairs, voxels = _labelled_part(prediction_LIJK, truth_LIJK, ignored_IJK)
    return {
        region: _mask_metrics(prediction, truth, voxels, spacing_mm, tolerance_mm, sheared_mm)
        for region, (prediction, truth) in zip(regions, pairs, strict=True)
    }


def _labelled_part(
    prediction_LIJK: NDArray[Any], truth_LIJK: NDArray[Any], ignored_IJK: Mask | None
) -> tuple[list[tuple[Mask, Mask]], int]:
    """Both masks of each region, in the box around the labelled voxels, and the voxels' number."""
    if prediction_LIJK.shape != truth_LIJK.shape:
        raise DataError(
            f"prediction {prediction_LIJK.shape} and truth {truth_LIJK.shape} differ in shape; "
            "bring the prediction to the grid of the truth"
        )
    both = [masks_LIJK.astype(bool) for masks_LIJK in (prediction_LIJK, truth_LIJK)]
    voxels = math.prod(truth_LIJK.shape[1:])
    if ignored_IJK is not None:
        known_IJK = ~ignored_IJK
        voxels, box = int(known_IJK.sum()), bounding_box(known_IJK) or (slice(0),) * 3
        both = [(masks_LIJK & known_IJK)[(slice(None), *box)] for masks_LIJK in both]
    return list(zip(*both, strict=True)), voxels


def _mask_metrics(
    prediction_IJK: Mask,
    truth_IJK: Mask,
    voxels: int,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    sheared_mm: NDArray[np.float64] | None,
) -> dict[str, float]:
    shape, either_IJK = truth_IJK.shape, prediction_IJK | truth_IJK
    box = bounding_box(either_IJK) or (slice(1),) * either_IJK.ndim
    prediction_IJK, truth_IJK = prediction_IJK[box], truth_IJK[box]
    positive, actual = int(prediction_IJK.sum()), int(truth_IJK.sum())
    hit = int((prediction_IJK & truth_IJK).sum())
    negative, false_positive = voxels - actual, positive - hit
    one_ml = float(math.prod(spacing_mm)) / 1000
    if sheared_mm is not None:
        one_ml *= fill(sheared_mm)
    hd95_mm, surface_dice = _surfaces(
        prediction_IJK, truth_IJK, shape, spacing_mm, tolerance_mm, sheared_mm
    )

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float(positive == actual)  # 0/0: right only if both empty

    return {
        "dice": share(2 * hit, positive + actual),
        "iou": share(hit, actual + false_positive),
        "hd95_mm": hd95_mm,
        "surface_dice": surface_dice,
        "sensitivity": share(hit, actual),
        "specificity": (negative - false_positive) / negative if negative else 1.0,
        "precision": share(hit, positive),
        **lesion_metrics(prediction_IJK, truth_IJK, spacing_mm),
        "truth_ml": actual * one_ml,
        "predicted_ml": positive * one_ml,
        "volume_error_ml": abs(positive - actual) * one_ml,
        "relative_volume_error": abs(positive - actual) / actual if actual else float(positive > 0),
    }


def _surfaces(
    prediction_IJK: Mask,
    truth_IJK: Mask,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    sheared_mm: NDArray[np.float64] | None,
) -> tuple[float, float]:
    """HD95 in mm and surface Dice; ``shape``: of the whole image."""
    positive, actual = prediction_IJK.any(), truth_IJK.any()
    if positive and actual:
        return surface_scores(prediction_IJK, truth_IJK, spacing_mm, tolerance_mm, sheared_mm)
    if positive or actual:
        return diagonal_mm(shape, spacing_mm, sheared_mm), 0.0
    return 0.0, 1.0


def mask_dice(prediction: Mask, truth: Mask) -> float:
    """The Dice of :func:`case_metrics` alone."""
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else 1.0


def metric_rows(
    case: str, patient: str, scores: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The result of :func:`case_metrics`, one row per region."""
    return [
        {"case": case, "patient": patient, "region": region, "metrics": dict(metrics)}
        for region, metrics in scores.items()
    ]


def scores_by_patient(rows: Iterable[Row], region: str, metric: str) -> dict[str, list[float]]:
    """The scores of each patient's cases, as :mod:`medtl.evaluation.intervals` takes them."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["region"] == region:
            scores.setdefault(row["patient"], []).append(row["metrics"][metric])
    return scores


def region_names(rows: Sequence[Row]) -> list[str]:
    """The regions in the order of the cases that have rows of most of them."""
    by_case: dict[str, list[str]] = {}
    for row in rows:
        by_case.setdefault(row.get("case", ""), []).append(row["region"])
    fullest_first = sorted(by_case.values(), key=len, reverse=True)
    return list(dict.fromkeys(name for names in fullest_first for name in names))


def dice_by_patient(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """The Dice of each region's cases, by patient."""
    return {name: scores_by_patient(rows, name, "dice") for name in region_names(rows)}


def found_by_patient(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """As :func:`dice_by_patient`, of the cases that have the region: what a network finds of it."""
    return dice_by_patient([row for row in rows if row["metrics"]["truth_ml"] > 0])


def summarise(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """``{region: {metric: {"mean", "n", "low", "high", "method"}}}``; below 5 patients "values"."""

    def found(region: str, metric: str) -> dict[str, Any]:
        patients = scores_by_patient(rows, region, metric)
        return interval(patients, bounds=BOUNDS[metric], seed=seed).to_json()

    return {n: {metric: found(n, metric) for metric in BOUNDS} for n in region_names(rows)}


def write_metrics_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per case and region, the metrics as columns at full precision."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "metrics"]
    cells = (
        [row.get(key, "") for key in keys] + [row["metrics"][name] for name in BOUNDS]
        for row in rows
    )
    write_csv(path, [*keys, *BOUNDS], cells)
