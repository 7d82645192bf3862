"""Whole images through a trained network, and their classes.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from medtl.data.case import Case
from medtl.inference.classification import Classifier, classify, most_likely
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share
from medtl.runtime.parallel import ahead


def score_classes(
    classifier: Classifier, cases: Sequence[Case], reporter: Reporter, what: str
) -> list[dict[str, Any]]:
    """Rows (case, patient, class, predicted, probability by class) of labelled cases."""
    rows: list[dict[str, Any]] = []
    own = share(classifier.fabric, cases)
    with reporter.progress(what, len(own)) as advance:
        prepared = ahead(partial(classifier.recipe, with_target=False), own)
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
