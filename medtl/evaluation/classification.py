"""Scores of classifiers: the same functions as :mod:`medtl.evaluation.segmentation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medtl.data.case import Case, Cohort
from medtl.evaluation.class_metrics import (
    calibrated,
    confusion,
    hits_by_patient,
    per_patient,
    summarise_classes,
)
from medtl.inference.classification import Classifier, classify, most_likely, write_predictions_csv
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share
from medtl.runtime.parallel import ahead

Rows = Sequence[Mapping[str, Any]]

#: The metric by which stages are compared within patients; higher is better.
COMPARED_BY = "accuracy"
check_cohort = Cohort.check_classes
summarise = summarise_classes
by_patient = hits_by_patient
#: A classifier always finds a class: no floor
found_by_patient = None


def score(
    classifier: Classifier, cases: Sequence[Case], reporter: Reporter, what: str
) -> list[dict[str, Any]]:
    """Rows (case, patient, class, predicted, probability by class) of labelled cases."""
    rows: list[dict[str, Any]] = []
    own = share(classifier.fabric, cases)
    with reporter.progress(what, len(own)) as advance:
        prepared = ahead(partial(classifier.preprocessor, with_target=False), own)
        found = classify([classifier], ([one] for one in prepared))
        for done, (case, probability) in enumerate(zip(own, found, strict=True), 1):
            rows.append(
                {
                    "case": case.id,
                    "patient": case.patient,
                    "class": case.class_name,
                    "predicted": most_likely(probability),
                    "probability": probability,
                }
            )
            advance(done)
    return gather(classifier.fabric, rows, len(cases))


def details(classifier: Classifier, rows: Rows) -> dict[str, Any]:
    """Facts beside the scores of a stage, by name."""
    patients = per_patient(rows)
    return {
        "confusion": confusion(rows),
        "calibration": calibrated(rows, classifier.temperature),
        **({"by_patient": patients.how} if patients else {}),
    }


def write_rows(folder: Path, rows: Rows) -> None:
    """``rows`` of every stage, with its name under "stage"."""
    write_predictions_csv(folder / "predictions.csv", rows)
