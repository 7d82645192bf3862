"""Calibration and temperature against scikit-learn and scipy; scores of patients by hand.

Axes: N case, L class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn import metrics
from sklearn.calibration import calibration_curve

from medtl.evaluation.calibration import BINS, calibration_scores, reliability
from medtl.evaluation.class_metrics import calibrated, per_patient, summarise_classes
from medtl.evaluation.tables import class_tables
from medtl.inference.temperature import HIGHEST, LOWEST, Temperature, fit_temperature, tempered


def drawn(cases: int = 200, strength: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and logits that are ``strength`` times as sure as they should be."""
    random = np.random.default_rng(seed)
    logits_NL = random.normal(scale=1.5, size=(cases, 3))
    truth_N = np.array([random.choice(3, p=row) for row in softmax(logits_NL, axis=1)])
    return truth_N, strength * logits_NL


def rows(truth_N: np.ndarray, probability_NL: np.ndarray, patients: list[str]) -> list[Any]:
    return [
        {
            "case": f"c{n}",
            "patient": patient,
            "class": "abc"[truth],
            "predicted": "abc"[int(shares.argmax())],
            "probability": dict(zip("abc", shares.tolist(), strict=True)),
        }
        for n, (truth, shares, patient) in enumerate(
            zip(truth_N, probability_NL, patients, strict=True)
        )
    ]


def test_calibration_error_is_that_of_sklearns_bins() -> None:
    truth_N, logits_NL = drawn()
    probability_NL = softmax(logits_NL, axis=1)
    sure_N, right_N = probability_NL.max(1), probability_NL.argmax(1) == truth_N
    right, sure = calibration_curve(right_N, sure_N, n_bins=BINS)
    counts = np.histogram(sure_N, np.linspace(0, 1, BINS + 1))[0]
    expected = np.average(np.abs(right - sure), weights=counts[counts > 0])
    found = calibration_scores(truth_N, probability_NL, np.ones((1, len(truth_N))))
    assert found["ece"][0] == pytest.approx(expected)
    bins = reliability(truth_N, probability_NL)
    assert [b["cases"] for b in bins] == counts[counts > 0].tolist()
    assert [b["accuracy"] for b in bins] == pytest.approx(right)
    assert [b["confidence"] for b in bins] == pytest.approx(sure)


def test_brier_score_of_two_classes_is_twice_that_of_sklearn() -> None:
    truth_N = np.array([0, 1, 1, 0, 1])
    second_N = np.array([0.2, 0.9, 0.4, 0.5, 0.7])
    both_NL = np.stack([1 - second_N, second_N], axis=1)
    found = calibration_scores(truth_N, both_NL, np.ones((1, 5)))
    assert found["brier"][0] == pytest.approx(2 * metrics.brier_score_loss(truth_N, second_N))
    assert found["log_loss"][0] == pytest.approx(metrics.log_loss(truth_N, second_N))


@pytest.mark.parametrize("strength", [0.4, 1.0, 3.0])
def test_temperature_is_where_the_log_loss_of_the_logits_is_least(strength: float) -> None:
    truth_N, logits_NL = drawn(strength=strength)

    def loss(temperature: np.ndarray) -> float:
        return float(-log_softmax(logits_NL / temperature, 1)[np.arange(200), truth_N].mean())

    found = fit_temperature(truth_N, softmax(logits_NL, axis=1))
    expected = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert found.value == pytest.approx(float(expected.x[0]), rel=1e-4)
    assert found.value == pytest.approx(strength, rel=0.3)
    assert found.cases == 200


def test_temperature_that_nothing_tells_is_1_and_says_so() -> None:
    none = fit_temperature(np.array([], int), np.array([]))
    assert none == Temperature(1.0, 0) and "no validation cases" in str(none)
    truth_N = np.array([0, 1, 2])
    sure = fit_temperature(truth_N, 0.4 * np.eye(3) + 0.2)
    assert sure == Temperature(1.0, 3) and "all 3 validation cases are classified right" in str(
        sure
    )
    with pytest.raises(ValueError, match="not a positive number"):
        Temperature(0.0)


def test_temperature_changes_how_sure_but_not_what_is_said() -> None:
    _, logits_NL = drawn(30)
    probability_NL = softmax(logits_NL, axis=1)
    milder_NL = tempered(probability_NL, 2.5)
    assert milder_NL == pytest.approx(softmax(logits_NL / 2.5, axis=1))
    assert (milder_NL.argmax(1) == probability_NL.argmax(1)).all()
    assert tempered(milder_NL, 1 / 2.5) == pytest.approx(probability_NL)


def test_scores_before_the_temperature_are_those_of_the_bare_logits() -> None:
    truth_N, logits_NL = drawn(60)
    patients = [f"p{n:02}" for n in range(60)]
    table = rows(truth_N, softmax(logits_NL / 2.0, axis=1), patients)
    found = calibrated(table, Temperature(2.0, 17))
    assert (found["temperature"], found["fitted_on"]) == (2.0, 17)
    before = found["uncalibrated"]["log_loss"]
    assert before["mean"] == pytest.approx(metrics.log_loss(truth_N, softmax(logits_NL, axis=1)))
    assert before["low"] < before["mean"] < before["high"]
    assert before["mean"] > summarise_classes(table)["all"]["log_loss"]["mean"]


def test_patients_of_one_class_have_the_mean_probability_of_their_images() -> None:
    truth_N = np.repeat(np.arange(12) % 3, 4)
    probability_NL = np.random.default_rng(1).dirichlet(np.ones(3), size=48)
    patients = [f"p{n // 4:02}" for n in range(48)]
    found = summarise_classes(rows(truth_N, probability_NL, patients))
    mean_PL = probability_NL.reshape(12, 4, 3).mean(1)
    said_P, truth_P = mean_PL.argmax(1), truth_N[::4]
    assert found["all by patient"]["accuracy"]["mean"] == pytest.approx((said_P == truth_P).mean())
    expected = metrics.roc_auc_score(truth_P == 1, mean_PL[:, 1])
    assert found["b by patient"]["auroc"]["mean"] == pytest.approx(expected)
    assert found["b by patient"]["auroc"]["n"] == 4


def test_images_of_a_patient_of_several_classes_share_one_vote() -> None:
    truth_N = np.array([0, 1, 1, 0, 1, 2, 0])
    probability_NL = np.random.default_rng(2).dirichlet(np.ones(3), size=7)
    patients = ["one", "one", "one", "two", "two", "two", "three"]
    table = rows(truth_N, probability_NL, patients)
    weights_N = [1 / 3] * 6 + [1]
    found = summarise_classes(table)["all by patient"]
    said_N = probability_NL.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(truth_N, said_N, sample_weight=weights_N),
        "log_loss": metrics.log_loss(truth_N, probability_NL, sample_weight=weights_N),
        "weighted_f1": metrics.f1_score(
            truth_N, said_N, average="weighted", sample_weight=weights_N
        ),
        "auprc": metrics.average_precision_score(
            np.eye(3)[truth_N], probability_NL, sample_weight=weights_N
        ),
    }
    assert {metric: found[metric]["mean"] for metric in expected} == pytest.approx(expected)
    patients_found = per_patient(table)
    assert patients_found is not None and "share one vote" in patients_found.how


def test_tables_show_every_score_and_say_what_by_patient_means() -> None:
    truth_N = np.array([0, 1, 2, 0, 1, 2])
    table = rows(truth_N, 0.4 * np.eye(3)[truth_N] + 0.2, list("aabbcc"))
    tables = class_tables({"scratch": summarise_classes(table)}, synthetic=False)
    text = "\n".join(each.plain() for each in tables)
    for label in ("macro precision", "weighted F1", "AUPRC", "ECE", "sensitivity at specificity"):
        assert label in text
    assert "the patient's images share one vote" in tables[0].notes[-1]
    assert [row[1] for row in tables[0].rows] == ["all", "all by patient"]


def test_patients_of_one_image_are_not_scored_twice() -> None:
    truth_N, logits_NL = drawn(12)
    table = rows(truth_N, softmax(logits_NL, axis=1), [f"p{n}" for n in range(12)])
    assert set(summarise_classes(table)) == {"all", "a", "b", "c"}


def test_a_temperature_at_its_bound_is_told() -> None:
    truth_N = np.array([1, 1, 0, 0])
    wrong_NL = np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2)
    found = fit_temperature(truth_N, wrong_NL)
    assert found.value == pytest.approx(HIGHEST, rel=1e-3)
    assert "the highest that is tried, so the probabilities are not calibrated" in str(found)
    assert "tried" not in str(Temperature(2.0, 9)) + str(Temperature(0.5, 9))
    assert "so few cases may mislead" in str(Temperature(2.0, 49))
    assert "mislead" not in str(Temperature(2.0, 50))
    assert "the lowest that is tried" in str(Temperature(LOWEST, 9))
