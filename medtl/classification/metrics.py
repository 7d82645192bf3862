"""Scores of a set of classified cases, with intervals over patients.

Axes: N case, L class, R replicate (a way to weigh the cases). Every score is computed for many
weighings at once, so that a bootstrap costs little.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.files import replacing
from medtl.intervals import Interval, set_intervals

Array = NDArray[np.float64]
#: One case: ``case``, ``patient``, ``class``, ``predicted``, ``probability`` by class.
Row = Mapping[str, Any]

#: Of all classes together; macro means and areas are over the classes that occur.
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "brier", "log_loss")
PER_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc")
BOUNDS = {name: (0.0, 1.0) for name in (*OVERALL, *PER_CLASS)} | {
    "brier": (0.0, 2.0),
    "log_loss": (0.0, math.inf),
}
ALL = "all"
_UNDEFINED = "undefined: no case decides it"
#: Probabilities below this count as this much in the log loss.
LEAST_PROBABILITY = 1e-15


def class_scores(
    truth_N: NDArray[Any], probability_NL: Array, weights_RN: Array
) -> dict[tuple[str, str], Array]:
    """(class or "all", metric) -> score_R; NaN where no weighted case decides it.

    Sensitivity, specificity, precision, F1 and the area under the ROC curve take one class against
    the rest; a class that is never predicted has precision 0. Brier is the mean squared distance of
    the probabilities from the truth, summed over classes (Brier 1950). "all" ``auroc``: mean over
    classes (macro, one against the rest).
    """
    count = probability_NL.shape[1]
    is_NL = np.eye(count)[truth_N]
    said_NL = np.eye(count)[probability_NL.argmax(1)]
    total_R = weights_RN.sum(1)
    hit_RL, is_RL, said_RL = (weights_RN @ x for x in (is_NL * said_NL, is_NL, said_NL))
    rest_RL = total_R[:, None] - is_RL
    surprise_N = -np.log(np.maximum(probability_NL[is_NL == 1], LEAST_PROBABILITY))
    distance_N = ((probability_NL - is_NL) ** 2).sum(1)
    never_RL = np.where((said_RL == 0) & (is_RL > 0), 0.0, np.nan)
    per_class = {
        "sensitivity": _share(hit_RL, is_RL),
        "specificity": _share(rest_RL - said_RL + hit_RL, rest_RL),
        "precision": np.where(said_RL > 0, _share(hit_RL, said_RL), never_RL),
        "f1": _share(2 * hit_RL, is_RL + said_RL),
        "auroc": _auroc(is_NL, probability_NL, weights_RN),
    }
    overall = {
        "accuracy": _share(hit_RL.sum(1), total_R),
        "balanced_accuracy": _mean(per_class["sensitivity"]),
        "macro_f1": _mean(per_class["f1"]),
        "auroc": _mean(per_class["auroc"]),
        "brier": _share(weights_RN @ distance_N, total_R),
        "log_loss": _share(weights_RN @ surprise_N, total_R),
    }
    scores = {(ALL, metric): overall[metric] for metric in OVERALL}
    for index in range(count):
        for metric in PER_CLASS:
            scores[str(index), metric] = per_class[metric][:, index]
    return scores


def _share(part: Array, whole: Array) -> Array:
    undefined = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole > 0))


def _mean(scores_RL: Array) -> Array:
    """Over the classes that have a score."""
    known_RL = ~np.isnan(scores_RL)
    return _share(np.where(known_RL, scores_RL, 0).sum(1), known_RL.sum(1).astype(float))


def _auroc(is_NL: Array, probability_NL: Array, weights_RN: Array) -> Array:
    """How often a case of the class has a higher probability than one that is not; ties half."""
    areas = np.empty((len(weights_RN), is_NL.shape[1]))
    for index, (is_N, probability_N) in enumerate(zip(is_NL.T, probability_NL.T, strict=True)):
        order = np.argsort(probability_N, kind="stable")
        starts = np.flatnonzero(np.diff(probability_N[order], prepend=-1.0))  # one per tie
        sorted_RN = weights_RN[:, order]
        yes = np.add.reduceat(sorted_RN * is_N[order], starts, axis=1)
        no = np.add.reduceat(sorted_RN * (1 - is_N[order]), starts, axis=1)
        won_R = (yes * (np.cumsum(no, axis=1) - no / 2)).sum(1)
        areas[:, index] = _share(won_R, yes.sum(1) * no.sum(1))
    return areas


def summarise_classes(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """``{"all" or class: {metric: {"mean", "n", "low", "high", "method"}}}``.

    ``mean`` is the score of all cases; ``n`` counts the patients who decide it: for the sensitivity
    those with a case of the class, and so on. ``mean`` is None where nobody does.
    """
    classes = list(rows[0]["probability"])
    truth_N = np.array([classes.index(row["class"]) for row in rows])
    probability_NL = np.array([list(row["probability"].values()) for row in rows])
    patients = [str(row["patient"]) for row in rows]
    found = set_intervals(
        lambda weights_RN: class_scores(truth_N, probability_NL, weights_RN),
        patients,
        {key: BOUNDS[key[1]] for key in _keys(len(classes))},
        _deciders(truth_N, probability_NL.argmax(1), patients, len(classes)),
        seed=seed,
    )
    names = {ALL: ALL, **{str(n): name for n, name in enumerate(classes)}}
    summary: dict[str, dict[str, Any]] = {}
    for (key, metric), interval in found.items():
        summary.setdefault(names[key], {})[metric] = _json(interval)
    return summary


def _keys(count: int) -> list[tuple[str, str]]:
    every = [(ALL, metric) for metric in OVERALL]
    return every + [(str(n), metric) for n in range(count) for metric in PER_CLASS]


def _deciders(
    truth_N: NDArray[Any], said_N: NDArray[Any], patients: Sequence[str], count: int
) -> dict[tuple[str, str], int]:
    """How many patients each score depends on; of two sides that are compared, the fewer."""

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
            (str(index), "auroc"): min(own, others),
        }
    return deciders


def _json(interval: Interval) -> dict[str, Any]:
    if math.isnan(interval.mean):
        return {**interval.to_json(), "mean": None, "method": _UNDEFINED}
    return interval.to_json()


def confusion(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"classes": [...], "cases": [[...]]}``: a line per true class, a column per predicted."""
    classes = list(rows[0]["probability"])
    cases = [[0] * len(classes) for _ in classes]
    for row in rows:
        cases[classes.index(row["class"])][classes.index(row["predicted"])] += 1
    return {"classes": classes, "cases": cases}


def write_predictions_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per case: what is known of it, a column ``p_CLASS`` per class, ``predicted``."""
    known = [key for key in rows[0] if key not in ("probability", "predicted")]
    classes = list(rows[0]["probability"])
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*known, *(f"p_{name}" for name in classes), "predicted"])
        for row in rows:
            shares = (f"{row['probability'][name]:.6g}" for name in classes)
            writer.writerow([*(row[key] for key in known), *shares, row["predicted"]])
