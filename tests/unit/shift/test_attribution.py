"""Shares of a shift by family, and advice that follows its rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medtl.shift.contract import Rows
from medtl.shift.images.pool import Pooled
from medtl.shift.metrics.mmd import mmd, mmd_linear
from medtl.shift.report.advice import advise
from medtl.shift.report.attribution import (
    Attribution,
    FamilyShift,
    MetricTest,
    Removal,
    family_shifts,
)
from medtl.shift.report.removals import removals_of
from medtl.shift.report.row import ShiftRow, verdict_of
from medtl.shift.stats.metric_result import evaluate_metric
from medtl.shift.stats.permutations import Comparison, draw_permutations

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


def comparison(sample: Pooled) -> MetricTest:
    sides = Comparison(sample.source_U, sample.target_U, sample.rows.patient_U)
    made = draw_permutations(sides, 499, seed=0)
    return lambda metric, scorer: evaluate_metric(metric, scorer, sides, made)


def attributed(gaps: tuple[float, ...]) -> dict[str, FamilyShift]:
    sample = pooled(gaps)
    parts = family_shifts(sample, comparison(sample), mmd(), mmd_linear())
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


def labels(patients: int = PATIENTS, gap: float = 0.0) -> Pooled:
    """One row of labels for each of the patients of :func:`pooled`, or of the first of either."""
    whole = pooled((0.0,) * len(NAMES))
    kept_N = np.arange(2 * PATIENTS) % PATIENTS < patients
    random = np.random.default_rng(5)
    values_NF = random.normal(size=(2 * patients, 1)) + gap * ~whole.source_U[kept_N, None]
    unit_N = np.arange(2 * patients)
    return replace(
        whole, rows=Rows(values_NF, ("label/WT",), unit_N, unit_N),
        source_U=whole.source_U[kept_N], target_U=whole.target_U[kept_N],
        modality_U=("",) * len(unit_N), group_U=("",) * len(unit_N),
        patients=tuple(np.array(whole.patients)[kept_N]),
    )  # fmt: skip


def test_the_label_prior_is_corrected_together_with_the_families() -> None:
    sample, prior = pooled((0.0, 0.0, 0.0, 0.0)), labels(gap=0.5)
    parts = family_shifts(
        sample, comparison(sample), mmd(), mmd_linear(), (prior, comparison(prior))
    )
    alone = comparison(prior)(mmd(), mmd().prepare(prior.rows))
    families = [
        comparison(sample)(
            mmd(), mmd().prepare(replace(sample.rows, values_NF=sample.rows.values_NF[:, chosen]))
        )
        for chosen in (slice(0, 2), slice(2, 3), slice(3, 4))
    ]
    outcomes = [alone, *families]
    largest_R = np.max([outcome.standard_R[1:] for outcome in outcomes], axis=0)
    wanted = (np.sum(largest_R >= alone.standard_R[0] - 1e-9) + 1) / (len(largest_R) + 1)
    assert parts[-1].family == "label" and parts[-1].share is None
    assert parts[-1].p_adjusted == pytest.approx(wanted)
    assert alone.p is not None and wanted > alone.p


def test_the_label_prior_of_other_patients_is_corrected_by_bonferroni_and_says_so() -> None:
    sample, prior = pooled((0.0, 0.0, 0.0, 0.0)), labels(patients=20, gap=0.5)
    *families, last = family_shifts(
        sample, comparison(sample), mmd(), mmd_linear(), (prior, comparison(prior))
    )
    alone = comparison(prior)(mmd(), mmd().prepare(prior.rows))
    assert alone.p is not None and len(families) == 3
    assert last.p_adjusted == pytest.approx(min(1, 4 * alone.p))
    assert "other patients" in last.note
    assert tuple(families) == family_shifts(sample, comparison(sample), mmd(), mmd_linear())


def test_the_label_prior_of_few_patients_keeps_its_note() -> None:
    sample, prior = pooled((0.0, 0.0, 0.0, 0.0)), labels(patients=2)
    *_, last = family_shifts(
        sample, comparison(sample), mmd(), mmd_linear(), (prior, comparison(prior))
    )
    assert "too few patients for a significant result" in last.note


COLUMNS = 10
GAP = 3.0


def stored(gap: float = GAP) -> Pooled:
    """Ten columns around 8, all of them shifted by ``gap`` deviations."""
    random = np.random.default_rng(4)
    whole = pooled((0.0,) * len(NAMES))
    apart_NF = gap * np.outer(~whole.source_U, np.ones(COLUMNS))
    values_NF = 8 + 0.3 * (random.normal(size=apart_NF.shape) + apart_NF)
    names = tuple(f"scale/{n}" if n < 4 else f"contrast/{n}" for n in range(COLUMNS))
    return replace(whole, rows=replace(whole.rows, values_NF=values_NF, names=names))


def repaired(sample: Pooled, columns: int) -> np.ndarray:
    """The first ``columns`` have no shift any more."""
    values_NF = sample.rows.values_NF.copy()
    values_NF[np.ix_(sample.target_U, np.arange(columns))] -= 0.3 * GAP
    return values_NF


def removed(sample: Pooled, values_NF: np.ndarray) -> Removal:
    after = {"some": replace(sample, rows=replace(sample.rows, values_NF=values_NF))}
    (found,) = removals_of(sample, after, comparison(sample), mmd(), mmd_linear())
    return found


@pytest.mark.parametrize(("columns", "share"), [(0, 0.0), (5, 0.5), (9, 0.9), (10, 1.0)])
def test_repaired_columns_are_the_share_that_is_removed(columns: int, share: float) -> None:
    sample = stored()
    found = removed(sample, repaired(sample, columns))
    assert found.removed == pytest.approx(share, abs=0.03)
    assert found.p is not None and (found.p <= 0.05) == (columns < 10)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3])
def test_a_change_of_unit_removes_nothing(unit: float) -> None:
    sample = stored()
    assert removed(sample, unit * sample.rows.values_NF).removed == pytest.approx(0, abs=1e-9)
    scale_alone = np.where(np.arange(COLUMNS) < 4, unit, 1.0)
    assert removed(sample, scale_alone * sample.rows.values_NF).removed == pytest.approx(0)


@pytest.mark.parametrize("columns", [5, 9, 10])
def test_columns_that_are_equal_but_for_rounding_are_removed(columns: int) -> None:
    """Percentiles moved to 0 and 5 by turns, which differ by rounding between the domains."""
    sample = stored()
    values_NF = sample.rows.values_NF.copy()
    values_NF[:, :columns] = 5.0 * (np.arange(columns) % 2)
    values_NF[:, :columns] += 3.5e-5 * sample.target_U[:, None]
    found = removed(sample, values_NF)
    assert found.removed == pytest.approx(columns / COLUMNS, abs=0.03)
    if columns == COLUMNS:
        assert (found.left, found.p, found.removed) == (0.0, None, 1.0)
        assert "the same in every image" in found.note


def test_nothing_is_removed_where_there_was_no_shift_of_the_means() -> None:
    sample = stored(gap=0.0)
    assert removed(sample, sample.rows.values_NF).removed is None
    wider_NF = sample.rows.values_NF.copy()
    wider_NF[sample.target_U] = 8 + 6 * (wider_NF[sample.target_U] - 8)
    wider = replace(sample, rows=replace(sample.rows, values_NF=wider_NF))
    found = removed(wider, wider_NF)
    assert found.removed is None and found.p is not None and found.p <= 0.05


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


def test_the_verdict_says_what_few_patients_allow() -> None:
    few, many = row(p=0.0625, p_floor=0.03125), row(p=0.0625, p_floor=0.001)
    assert "the smallest possible p, of the most extreme permutation alone, is 0.031" in verdict_of(
        few
    )
    assert "smallest possible" not in verdict_of(many)
    assert "the smallest possible p is 0.001" in verdict_of(row())


def explained(removed: float, p: float, *, modalities_differ: bool = False) -> Attribution:
    parts = (FamilyShift("scale", 0.5, 0.001, 40.0, 0.9),)
    return Attribution(parts, (Removal("nyul", 0.1, p, removed),), (), modalities_differ)


def test_advice_to_harmonise_names_what_it_removes() -> None:
    first, second, *_ = advice([row()], explained(0.9, 0.4))
    assert first.startswith("Harmonise first: nyul (--set harmonise=nyul)")
    assert "90% of the squared difference" in first
    assert second.startswith("After that, freeze most") and "p = 0.4" in second


@pytest.mark.parametrize(("removed", "n_target"), [(0.1, 40), (0.1, 6), (0.9, 6)])
def test_freezing_after_harmonising_needs_a_harmoniser_and_patients(
    removed: float, n_target: int
) -> None:
    rows = [row(n_target=n_target), row(metric="domain-auroc", value=0.98)]
    first, second, *_ = said = advice(rows, explained(removed, 0.07), n_target)
    assert not any("After that" in text or "any more" in text for text in said)
    assert first.startswith("Harmonise first" if removed > 0.5 else "Harmonising does not solve it")
    assert "do not freeze the stem" in second
    assert ("before harmonising" in second) == (removed > 0.5)


def test_modalities_are_not_harmonised_away() -> None:
    first, *_ = said = advice([row()], explained(0.9, 0.4, modalities_differ=True))
    assert "Harmonise" not in first
    assert "90% is a mapping of intensities" in first
    assert not any("After that" in text for text in said)


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
    ("patients", "told"), [(6, "overfits few patients"), (60, "Fine-tune"), (500, "serious rival")]
)
def test_advice_follows_the_amount_of_target_data(patients: int, told: str) -> None:
    last = advice([row()], None, patients)[-1]
    assert told in last and f"{patients} target patients" in last
