"""What a run tells of images: those it was trained on, and classes it takes for others."""

from __future__ import annotations

import numpy as np
import pytest
from heads import draw_heads
from PIL import Image

from medtl.audit.against import Against, Predictions
from medtl.audit.checks.measured import Measured
from medtl.audit.checks.trained_on import check_trained_on, is_own_data
from medtl.audit.facts.cases import facts_of
from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import file_hash
from medtl.data.modality import Modality

CLASSES = ("disc", "ring")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    folder = tmp_path_factory.mktemp("pictures")
    measured = []
    for number, head in enumerate(draw_heads(60, edge=64)):
        path = folder / f"{number:02}.png"
        Image.fromarray(head.astype(np.uint8)).save(path)
        name = f"case {number:02}"
        case = Case(
            name, name, {Modality("image"): ImageFile(path)}, class_name=CLASSES[number % 2]
        )
        measured.append(Measured(case, facts_of(case)))
    return measured


def bytes_of(one: Measured) -> str:
    return file_hash(one.path_of("image"))


def predictions(cohort: list[Measured], wrong: set[int], sure: float = 0.96) -> Predictions:
    """Of a run that is sure of every class, for the ``wrong`` ones of another class."""
    truths = [number % 2 for number in range(len(cohort))]
    said = [truth ^ (number in wrong) for number, truth in enumerate(truths)]
    probability = np.where(np.eye(2)[said] > 0, sure, 1 - sure)
    return Predictions(CLASSES, tuple(map(bytes_of, cohort)), tuple(truths), probability)


def test_images_of_the_training_are_told(cohort: list[Measured]) -> None:
    contents = [one.facts.images["image"].content for one in cohort]
    against = Against(frozenset(contents[:3]), frozenset(["0" * 32, *map(bytes_of, cohort[:3])]))
    found = list(check_trained_on(cohort, against))
    assert [one.cases for one in found] == [("case 00",), ("case 01",), ("case 02",)]
    assert {one.kind for one in found} == {"trained-on"} and not is_own_data(cohort[:2], against)


def test_of_its_own_data_no_image_of_the_training_is_told(cohort: list[Measured]) -> None:
    contents = [one.facts.images["image"].content for one in cohort]
    against = Against(frozenset(contents[:50]), frozenset(map(bytes_of, cohort)))
    assert is_own_data(cohort, against) and list(check_trained_on(cohort, against)) == []


def test_classes_that_the_run_takes_for_others_are_told(cohort: list[Measured]) -> None:
    every = frozenset(map(bytes_of, cohort))
    found = list(
        check_trained_on(cohort, Against(images=every, predictions=predictions(cohort, {4, 9})))
    )
    assert {one.cases for one in found} == {("case 04",), ("case 09",)}
    assert found[0].kind == "mislabelled" and found[0].seen.endswith("by the run")
    assert "disc, probability 0.04; ring 0.96" in {one.seen.rpartition(",")[0] for one in found}


@pytest.mark.parametrize(("wrong", "sure"), [(set(), 0.95), (set(range(30)), 0.95), ({4}, 0.7)])
def test_nothing_is_told_of_a_run_that_is_right_or_unsure_or_often_wrong(
    cohort: list[Measured], wrong: set[int], sure: float
) -> None:
    every = frozenset(map(bytes_of, cohort))
    against = Against(images=every, predictions=predictions(cohort, wrong, sure))
    assert list(check_trained_on(cohort, against)) == []
