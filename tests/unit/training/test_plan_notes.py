"""What a plan says that its test set and its labels cannot tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from medtl.config import TrainConfig
from medtl.data.case import Case
from medtl.training.checks import few_tested, untold_regions

CONTROLLED = {"task": "brats", "with_control": True}


@pytest.mark.parametrize(
    ("tested", "patients", "settings", "said"),
    [
        (5, 25, CONTROLLED, ""),
        (
            1,
            8,
            CONTROLLED,
            "1 test patient: a verdict .* 5 or more .*use more data \\(8 are labelled\\)",
        ),
        (2, 12, CONTROLLED, r"use --folds 2 --fold 0 \(6 of 12\), or more data"),
        (4, 60, CONTROLLED, r"use --folds 5 --fold 0 \(12 of 60\)"),
        (4, 60, {"task": "brats"}, "4 test patients: an interval needs 5"),
        (4, 60, {**CONTROLLED, "protocol": "official"}, "use more data$"),
    ],
)
def test_too_few_test_patients_are_told_in_the_plan(tested, patients, settings, said) -> None:
    import re

    text = few_tested(tested, patients, "patients", TrainConfig(**settings))
    assert re.search(said, text) if said else text == ""


def test_what_the_labels_cannot_tell_is_told_once_per_scheme() -> None:
    def told(values, *, nested=False, exclusive=False) -> list[str]:
        task = SimpleNamespace(regions=tuple(values), nested=nested, exclusive=exclusive)
        return untold_regions(task, [Case(n, n, {}, regions=values) for n in "ab"])

    assert not told({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, nested=True)
    assert not told({"liver": (1,), "spleen": (2,)}, exclusive=True)
    assert not told({"A": (1, 3), "B": (2, 3)})
    (sentence,) = told({"WT": (1, 2), "NET": (1,), "ED": (2,)})
    assert "hold 2 of the 7 combinations of WT, NET, ED: WT+NET, WT+ED; " in sentence
    (sentence,) = told({"WT": (1, 2), "TC": (2, 1)}, nested=True)
    assert "1 of the 3 combinations" in sentence
