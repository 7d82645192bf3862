"""Scores of a set of classified cases, with intervals over patients.

Every score is computed for many weightings at once, so that a bootstrap is fast.

Axes: N case, L class, R replicate (weights of the cases).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.evaluation import calibration
from medtl.evaluation import roc as ranking
from medtl.evaluation.calibration import calibration_scores, reliability
from medtl.evaluation.intervals import Interval, set_intervals
from medtl.evaluation.roc import divided, ranking_scores
from medtl.inference.temperature import Temperature, tempered

Array = NDArray[np.float64]


#: One case: ``case``, ``patient``, ``class``, ``predicted``, ``probability`` by class.
Row = Mapping[str, Any]


_AVERAGED = ("precision", "recall", "f1")


#: Of all classes together; means over classes and areas include the classes that occur.
OVERALL = (
    "accuracy",
    "balanced_accuracy",
    *(f"{way}_{metric}" for way in ("macro", "weighted") for metric in _AVERAGED),
    *ranking.METRICS,
    *calibration.METRICS,
)


PER_CLASS = ("sensitivity", "specificity", "precision", "f1", *ranking.METRICS)


BOUNDS = {name: (0.0, 1.0) for name in (*OVERALL, *PER_CLASS)} | {
    "brier": (0.0, 2.0),
    "log_loss": (0.0, math.inf),
}


ALL = "all"


_PLAIN_SHARES = ("sensitivity", "specificity")


_UNDEFINED = "undefined: no case decides it"


def class_scores(
    truth_N: NDArray[Any], probability_NL: Array, weights_RN: Array
) -> dict[tuple[str, str], Array]:
    """(class or "all", metric) -> score_R; NaN if no weighted case decides it.

    Sensitivity, specificity, precision, F1 and ranking scores (:mod:`medtl.evaluation.roc`) take
    one class against the rest; a class that is never predicted has precision 0. "all": macro
    precision, recall and F1 are means over the classes that occur or are predicted, weighted ones
    are weighted by the classes' cases, ranking scores are means over classes, and calibration
    scores (:mod:`medtl.evaluation.calibration`) are of all cases.
    """
    count = probability_NL.shape[1]
    is_NL = np.eye(count)[truth_N]
    said_NL = np.eye(count)[probability_NL.argmax(1)]
    total_R = weights_RN.sum(1)
    hit_RL, is_RL, said_RL = (weights_RN @ x for x in (is_NL * said_NL, is_NL, said_NL))
    # Not by subtraction, whose rounding may give less than 0.
    rest_RL, passed_RL = (weights_RN @ x for x in (1 - is_NL, (1 - is_NL) * (1 - said_NL)))
    never_RL = np.where((said_RL == 0) & (is_RL > 0), 0.0, np.nan)
    per_class = {
        "sensitivity": divided(hit_RL, is_RL),
        "specificity": divided(passed_RL, rest_RL),
        "precision": np.where(said_RL > 0, divided(hit_RL, said_RL), never_RL),
        "f1": divided(2 * hit_RL, is_RL + said_RL),
    }
    ranked = [
        ranking_scores(is_N, probability_N, weights_RN)
        for is_N, probability_N in zip(is_NL.T, probability_NL.T, strict=True)
    ]
    for metric in ranking.METRICS:
        per_class[metric] = np.stack([scores[metric] for scores in ranked], axis=1)
    recall_RL = np.where((is_RL == 0) & (said_RL > 0), 0.0, per_class["sensitivity"])
    averaged = {"precision": per_class["precision"], "recall": recall_RL, "f1": per_class["f1"]}
    overall = {
        "accuracy": divided(hit_RL.sum(1), total_R),
        "balanced_accuracy": _mean(per_class["sensitivity"]),
        **{f"macro_{metric}": _mean(score_RL) for metric, score_RL in averaged.items()},
        **{
            f"weighted_{metric}": divided(np.nansum(score_RL * is_RL, axis=1), total_R)
            for metric, score_RL in averaged.items()
        },
        **{metric: _mean(per_class[metric]) for metric in ranking.METRICS},
        **calibration_scores(truth_N, probability_NL, weights_RN),
    }
    scores = {(ALL, metric): overall[metric] for metric in OVERALL}
    for index in range(count):
        for metric in PER_CLASS:
            scores[str(index), metric] = per_class[metric][:, index]
    return scores


def _mean(scores_RL: Array) -> Array:
    """Over the classes that have a score."""
    known_RL = ~np.isnan(scores_RL)
    return divided(np.where(known_RL, scores_RL, 0).sum(1), known_RL.sum(1).astype(float))


def summarise_classes(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """``{"all" or class: {metric: {"mean", "n", "low", "high", "method"}}}``.

    ``mean`` is the score of all cases; ``n`` counts the patients who decide it: for the sensitivity
    those with a case of the class, and so on. ``mean`` is None if there are none. If patients have
    several cases, "all by patient" and "CLASS by patient" score patients in place of cases
    (:func:`per_patient`).
    """
    summary = _summarise(rows, np.ones(len(rows)), seed)
    patients = per_patient(rows)
    if patients is not None:
        found = _summarise(patients.rows, np.array(patients.weights), seed)
        summary |= {f"{name}{BY_PATIENT}": scores for name, scores in found.items()}
    return summary


def _summarise(
    rows: Sequence[Row], weights_N: NDArray[np.float64], seed: int
) -> dict[str, dict[str, Any]]:
    truth_N, probability_NL = truth_and_probability(rows)
    classes = list(rows[0]["probability"])
    patients = [str(row["patient"]) for row in rows]
    found = set_intervals(
        lambda weights_RN: class_scores(truth_N, probability_NL, weights_RN * weights_N),
        patients,
        {key: BOUNDS[key[1]] for key in _keys(len(classes))},
        _deciders(truth_N, probability_NL.argmax(1), patients, len(classes)),
        shares=_shares(probability_NL.argmax(1), len(classes)),
        seed=seed,
    )
    names = {ALL: ALL, **{str(n): name for n, name in enumerate(classes)}}
    summary: dict[str, dict[str, Any]] = {}
    for (key, metric), interval in found.items():
        summary.setdefault(names[key], {})[metric] = as_json(interval)
    return summary


def truth_and_probability(rows: Sequence[Row]) -> tuple[NDArray[np.int64], Array]:
    """The number of each row's class (N), and its probabilities (N, L)."""
    classes = list(rows[0]["probability"])
    truth_N = np.array([classes.index(row["class"]) for row in rows])
    return truth_N, np.array([list(row["probability"].values()) for row in rows])


def calibrated(rows: Sequence[Row], temperature: Temperature, *, seed: int = 0) -> dict[str, Any]:
    """Calibration before and after the ``temperature``.

    ``{"temperature", "fitted_on" (cases), "uncalibrated": {metric: interval}, "reliability"}``;
    see :func:`medtl.evaluation.calibration.reliability`.
    """
    truth_N, probability_NL = truth_and_probability(rows)
    raw_NL = tempered(probability_NL, 1 / temperature.value)
    patients = [str(row["patient"]) for row in rows]
    before = set_intervals(
        lambda weights_RN: calibration_scores(truth_N, raw_NL, weights_RN),
        patients,
        {metric: BOUNDS[metric] for metric in calibration.METRICS},
        dict.fromkeys(calibration.METRICS, len(set(patients))),
        seed=seed,
    )
    return {
        "temperature": temperature.value,
        "fitted_on": temperature.cases,
        "uncalibrated": {metric: as_json(interval) for metric, interval in before.items()},
        "reliability": reliability(truth_N, probability_NL),
        "reliability_uncalibrated": reliability(truth_N, raw_NL),
    }


def _keys(count: int) -> list[tuple[str, str]]:
    every = [(ALL, metric) for metric in OVERALL]
    return every + [(str(n), metric) for n in range(count) for metric in PER_CLASS]


def _shares(said_N: NDArray[Any], count: int) -> list[tuple[str, str]]:
    """Scores that are a share of the cases that decide them; precision only if there are any."""
    said = {(str(index), "precision") for index in set(said_N.tolist())}
    plain = {(str(index), name) for index in range(count) for name in _PLAIN_SHARES}
    return [(ALL, "accuracy"), *sorted(plain | said)]


def _deciders(
    truth_N: NDArray[Any], said_N: NDArray[Any], patients: Sequence[str], count: int
) -> dict[tuple[str, str], int]:
    """The number of patients that each score depends on; for ranking, of the smaller group."""

    def number(chosen_N: NDArray[Any]) -> int:
        return len({patient for patient, chosen in zip(patients, chosen_N, strict=True) if chosen})

    everybody = len(set(patients))
    deciders = {(ALL, metric): everybody for metric in OVERALL}
    for index in range(count):
        own, others = number(truth_N == index), number(truth_N != index)
        deciders |= {
            (str(index), "sensitivity"): own,
            (str(index), "specificity"): others,
            (str(index), "precision"): number(said_N == index) or own,
            (str(index), "f1"): number((truth_N == index) | (said_N == index)),
        } | {(str(index), metric): min(own, others) for metric in ranking.METRICS}
    return deciders


def as_json(interval: Interval) -> dict[str, Any]:
    if math.isnan(interval.mean):
        return {**interval.to_json(), "mean": None, "method": _UNDEFINED}
    return interval.to_json()


def confusion(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"classes": [...], "cases": [[...]]}``: a row per true class, a column per predicted."""
    classes = list(rows[0]["probability"])
    cases = [[0] * len(classes) for _ in classes]
    for row in rows:
        cases[classes.index(row["class"])][classes.index(row["predicted"])] += 1
    return {"classes": classes, "cases": cases}


#: Suffix of "all" or of a class for scores over patients.
BY_PATIENT = " by patient"


@dataclass(frozen=True, slots=True)
class Patients:
    """Rows that stand for patients, their weights, and how they are made."""

    rows: Sequence[Row]
    weights: Sequence[float]
    how: str


def per_patient(rows: Sequence[Row]) -> Patients | None:
    """Rows per patient; None if every patient has one image.

    If every patient is of one class, a patient has the mean probability of the images. Otherwise
    (slices with and without tumour) the images of a patient share a weight of 1: the scores are
    those of a random image of a random patient.
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
    """``{"all": {patient: [1.0 for an image predicted right, else 0.0]}}``."""
    hits: dict[str, list[float]] = {}
    for row in rows:
        hits.setdefault(str(row["patient"]), []).append(float(row["predicted"] == row["class"]))
    return {"all": hits}
