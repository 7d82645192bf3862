"""Scores per patient where patients have several images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]

#: Follows "all" or the name of a class whose scores count patients.
BY_PATIENT = " by patient"


@dataclass(frozen=True, slots=True)
class Patients:
    """Rows that stand for patients, how much each counts, and how they came about."""

    rows: Sequence[Row]
    weights: Sequence[float]
    how: str


def per_patient(rows: Sequence[Row]) -> Patients | None:
    """None where every patient has one image: scores per image are then scores per patient.

    Where every patient is of one class, a patient has the mean probability of the images.
    Otherwise (slices with and without tumour) the images stay, and those of a patient share one
    vote: the scores are those of a random image of a random patient.
    """
    images: dict[str, list[Row]] = {}
    for row in rows:
        images.setdefault(str(row["patient"]), []).append(row)
    if len(images) == len(rows):
        return None
    if any(len({row["class"] for row in own}) > 1 for own in images.values()):
        shares = [1 / len(images[str(row["patient"])]) for row in rows]
        return Patients(rows, shares, "the images of a patient share one vote")
    merged = [{**own[0], "probability": _mean_probability(own)} for own in images.values()]
    return Patients(merged, [1.0] * len(merged), "mean probability of a patient's images")


def _mean_probability(rows: Sequence[Row]) -> dict[str, float]:
    return {
        name: fmean(row["probability"][name] for row in rows) for name in rows[0]["probability"]
    }


def hits_by_patient(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """``{"all": {patient: [1.0 for an image told right, else 0.0]}}``."""
    hits: dict[str, list[float]] = {}
    for row in rows:
        hits.setdefault(str(row["patient"]), []).append(float(row["predicted"] == row["class"]))
    return {"all": hits}
