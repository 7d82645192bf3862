"""The shift metric histogram-overlap against values known beforehand.

Axes: N row, F feature, U unit, R permutation.
"""

from __future__ import annotations

import numpy as np
import pytest

from medtl.shift.contract import Rows
from medtl_liver_ct.metric import histogram_overlap


def apart(values_NF: np.ndarray, patient_U: np.ndarray, source_U: np.ndarray) -> float:
    """One row per image."""
    rows = Rows(values_NF, ("scale/median",), np.arange(len(values_NF)), patient_U)
    score = histogram_overlap().prepare(rows)
    return float(score(source_U[None], ~source_U[None])[0])


def test_equal_sides_are_0_and_separate_ones_1_apart() -> None:
    values_NF = np.random.default_rng(0).normal(size=(32, 1))
    source_U = np.arange(64) < 32
    same = apart(np.concatenate([values_NF, values_NF]), np.arange(64), source_U)
    other = apart(np.concatenate([values_NF, values_NF + 100]), np.arange(64), source_U)
    assert (same, other) == (0, pytest.approx(1))


def test_two_uniform_sides_overlap_by_what_they_share() -> None:
    """0 .. 1 and 0.5 .. 1.5 share half of each."""
    grid = (np.arange(600) + 0.5) / 600
    values_NF = np.concatenate([grid, grid + 0.5])[:, None]
    source_U = np.arange(1200) < 600
    assert apart(values_NF, np.arange(1200), source_U) == pytest.approx(0.5, abs=0.05)


def test_a_patient_with_many_images_weighs_no_more_than_others() -> None:
    """Of two patients one is far off, so half of the source is, however often it was scanned."""
    values_NF = np.array([[9.0], [9.0], [9.0], [0.0], [0.0], [0.0]])
    source_U = np.array([1, 1, 1, 1, 0, 0], bool)
    assert apart(values_NF, np.array([0, 0, 0, 1, 2, 3]), source_U) == pytest.approx(0.5)


def test_a_side_without_patients_has_no_value() -> None:
    values_NF = np.arange(6.0)[:, None]
    assert np.isnan(apart(values_NF, np.arange(6), np.zeros(6, bool)))
