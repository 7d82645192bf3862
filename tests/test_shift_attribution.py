"""Shares of a shift by family, and advice that follows its rules."""

from __future__ import annotations

import numpy as np
import pytest

from medtl.shift.advice import advise
from medtl.shift.attribution import Attribution, Part, parts_of, removal
from medtl.shift.contract import Rows
from medtl.shift.design import arrange
from medtl.shift.measure import Outcome, Sides, measure
from medtl.shift.mmd import mmd, mmd_linear
from medtl.shift.pooling import Pooled
from medtl.shift.result import ShiftRow

PATIENTS = 24
NAMES = ("scale/median", "scale/iqr", "noise/laplacian", "contrast/skewness")


def pooled(gaps: tuple[float, ...]) -> Pooled:
    """One row per patient and side; ``gaps``: how far the target's mean lies off, by column."""
    random = np.random.default_rng(2)
    source_U = np.arange(2 * PATIENTS) < PATIENTS
    values_NF = random.normal(size=(2 * PATIENTS, len(NAMES))) + np.outer(~source_U, gaps)
    unit_N = np.arange(2 * PATIENTS)
    rows = Rows(values_NF, NAMES, unit_N, unit_N)
    nothing = ("",) * len(unit_N)
    return Pooled(rows, source_U, ~source_U, nothing, nothing, tuple(map(str, unit_N)))


def attributed(gaps: tuple[float, ...]) -> dict[str, Part]:
    sample = pooled(gaps)
    sides = Sides(sample.source_U, sample.target_U, sample.rows.patient_U)
    made = arrange(sides.source_U, sides.target_U, sides.patient_U, 499, seed=0)
    parts = parts_of(
        sample,
        lambda metric, scorer: measure(metric, scorer, sides, made),
        mmd(),
        mmd_linear(),
    )
    assert sum(part.share or 0 for part in parts) == pytest.approx(1)
    return {part.family: part for part in parts}


def test_the_family_that_moved_has_the_share_and_the_others_no_shift() -> None:
    parts = attributed((0.0, 0.0, 3.0, 0.0))
    assert parts["noise"].share == pytest.approx(1.0, abs=0.06)
    assert {name: part.shifted for name, part in parts.items()} == {
        "scale": False, "noise": True, "contrast": False,
    }  # fmt: skip


def test_shares_are_the_squared_differences_of_the_means() -> None:
    parts = attributed((3.0, 4.0, 5.0, 0.0))
    assert parts["scale"].share == pytest.approx(0.5, abs=0.1)
    assert parts["noise"].share == pytest.approx(0.5, abs=0.1)


def test_what_harmonising_removes_is_a_share_of_a_shift_that_was_there() -> None:
    before = Outcome(0.4, p=0.01)
    assert removal("nyul", before, Outcome(0.1, p=0.03)).removed == pytest.approx(0.75)
    assert removal("nyul", before, Outcome(-0.01, p=0.6)).removed == 1
    assert removal("nyul", Outcome(0.001, p=0.4), Outcome(0.0, p=0.5)).removed is None


def row(**changes: object) -> ShiftRow:
    values: dict[str, object] = {
        "source": "a", "target": "b", "metric": "mmd", "features": "appearance", "value": 0.3,
        "null_low": -0.01, "null_high": 0.02, "low": None, "high": None, "p": 0.001,
        "p_floor": 0.001, "p_adjusted": 0.001, "effect": 30.0, "design": "unpaired",
        "n_source": 40, "n_target": 40, "synthetic": False,
    }  # fmt: skip
    return ShiftRow(**(values | changes))  # type: ignore[arg-type]


def advice(rows: list[ShiftRow], attribution: Attribution | None, patients: int = 40) -> list[str]:
    return [str(sentence) for sentence in advise(rows, attribution, patients)]


def test_advice_to_harmonise_names_what_it_removes() -> None:
    parts = (Part("scale", 0.5, 0.001, 40.0, 0.9),)
    removals = (removal("nyul", Outcome(0.3, p=0.001), Outcome(0.03, p=0.4)),)
    first, second, *_ = advice([row()], Attribution(parts, removals))
    assert first.startswith("Harmonise first: nyul (--set harmonise=nyul)")
    assert "90% of the shift" in first
    assert "freeze most" in second and "p = 0.4" in second


def test_modalities_are_not_harmonised_away() -> None:
    removals = (removal("nyul", Outcome(0.3, p=0.001), Outcome(0.03, p=0.4)),)
    first, *_ = advice([row()], Attribution((), removals, modalities_differ=True))
    assert "Harmonise" not in first
    assert "90% is a mapping of intensities" in first


def test_advice_on_depth_rests_on_the_domain_classifier() -> None:
    far = advice([row(), row(metric="domain-auroc", value=0.98)], None)
    near = advice([row(), row(metric="domain-auroc", value=0.7)], None)
    assert any("do not freeze the stem" in text and "0.98" in text for text in far)
    assert any("freezing the encoder" in text and "0.70" in text for text in near)


def test_no_shift_and_too_few_patients_are_no_reason_to_adapt() -> None:
    (text,) = advice([row(p=0.3)], None)
    assert "evaluate the source model" in text and "p = 0.3" in text
    (text,) = advice([row(p=0.3, n_source=6, n_target=6)], None)
    assert "says little" in text and "6 and 6 patients" in text
    (text,) = advice([row(p=0.25, p_floor=0.25)], None)
    assert "cannot show a shift" in text
    assert advice([row(p=None, p_floor=None)], None) == []


@pytest.mark.parametrize(
    ("patients", "told"), [(6, "learnt by heart"), (60, "Fine-tune"), (500, "serious rival")]
)
def test_advice_follows_the_amount_of_target_data(patients: int, told: str) -> None:
    last = advice([row()], None, patients)[-1]
    assert told in last and f"{patients} target patients" in last
