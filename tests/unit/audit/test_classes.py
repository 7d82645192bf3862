"""Confident learning: the joint by hand, and planted errors."""

from __future__ import annotations

import numpy as np
import pytest

from medtl.audit.checks.classes import confident_joint, mislabelled

#: Four cases called 0 and three called 1. Thresholds: .6 and .7. Confident: 0, 0, 1, - | 1, 0, 1.
PROBABILITY = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.5, 0.5], [0.1, 0.9], [0.7, 0.3]])
PROBABILITY = np.vstack([PROBABILITY, [0.1, 0.9]])
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1])


def test_the_joint_is_that_of_a_hand_computed_case() -> None:
    joint = confident_joint(PROBABILITY, TRUTH)
    # Rows (2, 1) and (1, 2) of confident counts, scaled to 4 and 3 cases.
    assert joint == pytest.approx(np.array([[8 / 3, 4 / 3], [1, 2]]))


def test_as_many_as_the_joint_says_are_told_the_worst_first() -> None:
    # 4/3 + 1 = 2.33 wrong ones, of which two have another class as the likelier one.
    assert mislabelled(PROBABILITY, TRUTH) == [2, 5]


def test_planted_errors_are_found() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)
    logits = np.eye(3)[truth] * 3 + random.normal(size=(300, 3))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = truth.copy()
    planted = random.choice(300, 15, replace=False)
    given[planted] = (given[planted] + 1) % 3
    found = mislabelled(probability, given)
    assert len(set(found) & set(planted.tolist())) >= 14
    assert len(set(found) - set(planted.tolist())) <= 6
    assert len(mislabelled(probability, truth)) <= 12


def test_nothing_is_told_of_certain_right_classes() -> None:
    truth = np.array([0, 1] * 20)
    assert mislabelled(np.eye(2)[truth] * 0.8 + 0.1, truth) == []
