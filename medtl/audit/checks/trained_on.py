"""Images that a model was trained on, under any file name, and what it predicts of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medtl.audit.against import Against, Predictions
from medtl.audit.checks.classes import wrong_classes
from medtl.audit.checks.measured import Measured
from medtl.audit.checks.shortcuts import FEWEST, FEWEST_OF_CLASS
from medtl.audit.findings import Finding
from medtl.data.content_hash import file_hash

#: Share of a run's images from which a folder is the one that the run was made on.
OWN = 0.8


def check_trained_on(cohort: Sequence[Measured], against: Against) -> Iterator[Finding]:
    """Cases with an image of the training, and cases whose class the run takes for another.

    If the run was made on these images, its training images are not reported.
    """
    by_image = _by_image(cohort) if against.images else {}
    if not _is_own(by_image, against):
        yield from _trained_on(cohort, against.seen)
    if against.predictions:
        yield from _wrong(by_image, against.predictions)


def is_own_data(cohort: Sequence[Measured], against: Against) -> bool:
    """Whether the run was made on these images."""
    return bool(against.images) and _is_own(_by_image(cohort), against)


def _is_own(by_image: Mapping[str, tuple[Measured, str]], against: Against) -> bool:
    return len(against.images & by_image.keys()) > OWN * len(against.images)


def _by_image(cohort: Sequence[Measured]) -> dict[str, tuple[Measured, str]]:
    """Hash of the bytes of each readable image -> its case and modality."""
    return {
        file_hash(one.path_of(name)): (one, name) for one in cohort for name in one.facts.images
    }


def _trained_on(cohort: Sequence[Measured], seen: frozenset[str]) -> Iterator[Finding]:
    for one in cohort:
        known = [name for name, facts in one.facts.images.items() if facts.content in seen]
        if known:
            listed = ", ".join(known)
            yield one.found("trained-on", f"{listed}: the model was trained on it", *known)


def _wrong(
    by_image: Mapping[str, tuple[Measured, str]], predictions: Predictions
) -> Iterator[Finding]:
    """Likely mislabelled cases, by confident learning on the run's probabilities."""
    truth_N = np.array(predictions.truths)
    counts = np.bincount(truth_N, minlength=len(predictions.classes))
    if len(truth_N) < FEWEST or counts.min() < FEWEST_OF_CLASS:
        return
    for number, seen, score in wrong_classes(
        predictions.probability_NK, truth_N, predictions.classes
    ):
        if held := by_image.get(predictions.images[number]):
            one, name = held
            yield one.found("mislabelled", f"{seen}, by the run", name, score=score)
