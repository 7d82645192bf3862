"""Scores of classes against scikit-learn, their intervals against scipy and by hand.

Axes: N case, L class, R replicate.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from medtl.evaluation.class_metrics import ALL, class_scores, confusion, summarise_classes
from medtl.evaluation.intervals import bca, interval, set_intervals
from medtl.inference.classification import write_predictions_csv

CLASSES = ("a", "b", "c")


def drawn(cases: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities that know a little of them, with ties."""
    random = np.random.default_rng(seed)
    truth_N = random.integers(0, classes, cases)
    truth_N[:classes] = range(classes)
    logits_NL = random.normal(size=(cases, classes)) + 1.2 * np.eye(classes)[truth_N]
    probability_NL = np.exp(logits_NL.round(1))
    return truth_N, probability_NL / probability_NL.sum(1, keepdims=True)


def rows(
    truth_N: np.ndarray, probability_NL: np.ndarray, per_patient: int = 1
) -> list[Mapping[str, Any]]:
    return [
        {
            "case": f"case{n}",
            "patient": f"p{n // per_patient:03}",
            "class": CLASSES[truth],
            "predicted": CLASSES[int(shares.argmax())],
            "probability": dict(zip(CLASSES, shares.tolist(), strict=True)),
        }
        for n, (truth, shares) in enumerate(zip(truth_N, probability_NL, strict=True))
    ]


def sensitivity_at(specificity: float, is_N: np.ndarray, probability_N: np.ndarray) -> float:
    false_alarms, hits, _ = metrics.roc_curve(is_N, probability_N, drop_intermediate=False)
    return float(hits[false_alarms <= 1 - specificity + 1e-12].max())


def once(truth_N: np.ndarray, probability_NL: np.ndarray) -> dict[tuple[str, str], float]:
    found = class_scores(truth_N, probability_NL, np.ones((1, len(truth_N))))
    return {key: float(value[0]) for key, value in found.items()}


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_of_all_classes_are_those_of_sklearn(classes: int) -> None:
    truth_N, probability_NL = drawn(60, classes)
    said_N = probability_NL.argmax(1)
    one_hot_NL = np.eye(classes)[truth_N]
    averages = {
        f"{way}_{name}": score
        for way in ("macro", "weighted")
        for name, score in zip(
            ("precision", "recall", "f1"),
            metrics.precision_recall_fscore_support(truth_N, said_N, average=way),
            strict=False,
        )
    }
    expected = averages | {
        "accuracy": metrics.accuracy_score(truth_N, said_N),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth_N, said_N),
        "auroc": metrics.roc_auc_score(one_hot_NL, probability_NL, average="macro"),
        "auprc": metrics.average_precision_score(one_hot_NL, probability_NL, average="macro"),
        "brier": ((probability_NL - one_hot_NL) ** 2).sum(1).mean(),
        "log_loss": metrics.log_loss(truth_N, probability_NL),
    }
    found = once(truth_N, probability_NL)
    assert {metric: found[ALL, metric] for metric in expected} == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_of_each_class_are_those_of_sklearn(classes: int) -> None:
    truth_N, probability_NL = drawn(60, classes, seed=1)
    said_N = probability_NL.argmax(1)
    found = once(truth_N, probability_NL)
    for index in range(classes):
        is_N, said = truth_N == index, said_N == index
        expected = {
            "sensitivity": metrics.recall_score(is_N, said),
            "specificity": metrics.recall_score(~is_N, ~said),
            "precision": metrics.precision_score(is_N, said),
            "f1": metrics.f1_score(is_N, said),
            "auroc": metrics.roc_auc_score(is_N, probability_NL[:, index]),
            "auprc": metrics.average_precision_score(is_N, probability_NL[:, index]),
            "sensitivity_at_specificity_90": sensitivity_at(0.9, is_N, probability_NL[:, index]),
            "sensitivity_at_specificity_95": sensitivity_at(0.95, is_N, probability_NL[:, index]),
        }
        own = {metric: found[str(index), metric] for metric in expected}
        assert own == pytest.approx(expected)


def test_weights_count_cases_as_often_as_repeating_them_would() -> None:
    truth_N, probability_NL = drawn(25)
    weights_RN = np.random.default_rng(3).integers(0, 4, (6, 25)).astype(float)
    found = class_scores(truth_N, probability_NL, weights_RN)
    for replicate, weights_N in enumerate(weights_RN.astype(int)):
        repeated = once(truth_N.repeat(weights_N), probability_NL.repeat(weights_N, axis=0))
        assert {key: value[replicate] for key, value in found.items()} == pytest.approx(repeated)


def test_specificity_of_nothing_rejected_is_0_and_never_below() -> None:
    weights_RN = np.random.default_rng(0).dirichlet(np.ones(49), 64)  # sums that round
    truth_N = np.arange(49) % 2
    found = class_scores(truth_N, np.tile([0.9, 0.1], (49, 1)), weights_RN)
    assert set(found["0", "specificity"]) == {0.0}
    assert not np.signbit(found["0", "specificity"]).any()


def test_class_never_predicted_has_precision_0_and_an_absent_one_no_score() -> None:
    truth_N = np.array([0, 1, 1, 0])
    probability_NL = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.6, 0.4, 0]])
    found = once(truth_N, probability_NL)
    assert found["1", "precision"] == found["1", "sensitivity"] == found["1", "f1"] == 0
    assert found["2", "specificity"] == 1
    assert all(np.isnan(found["2", m]) for m in ("sensitivity", "precision", "f1", "auroc"))
    said_N = probability_NL.argmax(1)
    for name in ("precision", "recall", "f1"):
        expected = getattr(metrics, f"{name}_score")(
            truth_N, said_N, average="macro", zero_division=0
        )
        assert found[ALL, f"macro_{name}"] == pytest.approx(expected)
    assert found[ALL, "balanced_accuracy"] == 0.5


def test_summary_names_classes_and_counts_the_patients_who_decide() -> None:
    truth_N, probability_NL = drawn(60)
    summary = summarise_classes(rows(truth_N, probability_NL, per_patient=2))
    assert list(summary)[:4] == [ALL, *CLASSES]
    found = summary["b"]["sensitivity"]
    assert found["n"] == len({n // 2 for n in np.flatnonzero(truth_N == 1)})
    assert summary[ALL]["accuracy"]["n"] == 30
    for scores in summary.values():
        for score in scores.values():
            assert set(score) == {"mean", "n", "low", "high", "method"}
            assert score["low"] <= score["mean"] <= score["high"]
    json.dumps(summary, allow_nan=False)


def test_interval_of_accuracy_is_that_of_the_mean_of_hits() -> None:
    """One case per patient: accuracy is a mean, for which ``interval`` has its own way."""
    for cases in (12, 60):
        truth_N, probability_NL = drawn(cases, seed=2)
        table = rows(truth_N, probability_NL)
        expected = interval({r["patient"]: float(r["class"] == r["predicted"]) for r in table})
        found = summarise_classes(table)[ALL]["accuracy"]
        assert found["mean"] == pytest.approx(expected.mean)
        tolerance = 1e-12 if cases == 12 else 0.02  # other resamples
        assert found["low"] == pytest.approx(expected.low, abs=tolerance)
        assert found["high"] == pytest.approx(expected.high, abs=tolerance)


def test_bca_limits_are_those_of_scipy() -> None:
    values = np.random.default_rng(5).gamma(1.5, size=40)
    found = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(0))
    without = (values.sum() - values) / (len(values) - 1)
    limits = bca(float(values.mean()), found.bootstrap_distribution, without)
    assert limits == pytest.approx(tuple(found.confidence_interval), rel=1e-9)


def test_bootstrap_resamples_patients_not_cases() -> None:
    """Ten equal cases per patient tell no more than one."""
    truth_N, probability_NL = drawn(30, seed=4)
    ten = rows(truth_N.repeat(10), probability_NL.repeat(10, axis=0), per_patient=10)
    one = summarise_classes(rows(truth_N, probability_NL))
    many = summarise_classes(ten)
    for metric, score in one[ALL].items():
        assert many[ALL][metric]["low"] == pytest.approx(score["low"], abs=1e-9)
        assert many[ALL][metric]["high"] == pytest.approx(score["high"], abs=1e-9)


def test_few_patients_give_no_interval() -> None:
    truth_N, probability_NL = drawn(8)
    four = summarise_classes(rows(truth_N, probability_NL, per_patient=2))
    assert all(s["low"] is None for scores in four.values() for s in scores.values())
    truth_N = np.array([0] * 20 + [1] * 20 + [2] * 3)
    scores = summarise_classes(rows(truth_N, drawn(43)[1]))
    assert scores["a"]["sensitivity"]["low"] is not None
    assert scores["c"]["sensitivity"]["n"] == 3
    assert scores["c"]["sensitivity"]["low"] is None
    assert scores["c"]["auroc"]["low"] is None


def test_score_that_nobody_decides_is_none() -> None:
    truth_N = np.array([0, 1] * 10)
    probability_NL = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]] * 10)
    found = summarise_classes(rows(truth_N, probability_NL))["c"]["sensitivity"]
    assert found["mean"] is None and found["low"] is None
    assert "undefined" in found["method"]


def test_score_that_few_patients_hold_up_has_no_interval() -> None:
    def statistic(weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": np.where(weights_RN[:, 0] > 0, weights_RN.mean(1), np.nan)}

    names = [str(n) for n in range(25)]
    found = set_intervals(statistic, names, {"x": (0, 1)}, {"x": 25})["x"]
    assert found.mean == 1 and found.low is None and "undefined" in found.method


def test_share_of_all_cases_has_the_exact_interval_and_a_mean_over_classes_none() -> None:
    truth_N = np.array([0] * 6 + [1] * 6 + [2] * 6)
    probability_NL = np.eye(3)[np.zeros_like(truth_N)] * 0.8 + 0.1  # always the first class
    found = summarise_classes(rows(truth_N, probability_NL))
    for name, hits in (("a", 6), ("b", 0)):
        exact = stats.binomtest(hits, 6).proportion_ci(method="exact")
        sensitivity = found[name]["sensitivity"]
        assert (sensitivity["low"], sensitivity["high"]) == pytest.approx((exact.low, exact.high))
    assert found["b"]["precision"]["mean"] == 0 and found["b"]["precision"]["low"] is None
    assert found["all"]["balanced_accuracy"]["mean"] == pytest.approx(1 / 3)
    assert found["all"]["balanced_accuracy"]["low"] is None


def test_confusion_is_that_of_sklearn() -> None:
    truth_N, probability_NL = drawn(60)
    found = confusion(rows(truth_N, probability_NL))
    assert found["classes"] == list(CLASSES)
    assert found["cases"] == metrics.confusion_matrix(truth_N, probability_NL.argmax(1)).tolist()


def test_predictions_are_written_as_a_table(tmp_path: Path) -> None:
    table = rows(*drawn(5))
    write_predictions_csv(tmp_path / "p.csv", table)
    with (tmp_path / "p.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert list(lines[0]) == ["case", "patient", "class", "p_a", "p_b", "p_c", "predicted"]
    for line, row in zip(lines, table, strict=True):
        assert line["predicted"] == max(CLASSES, key=lambda name: float(line[f"p_{name}"]))
        assert float(line["p_b"]) == pytest.approx(row["probability"]["b"], rel=1e-5)
