"""The order of arms, against resamples that can be counted."""

from __future__ import annotations

import json

import pytest

from medtl.errors import DataError
from medtl.evaluation.comparison.ranks import rank_arms


def one_run(**scores: float) -> dict:
    return {(0, 0): scores}


def test_shares_are_those_of_all_resamples_of_two_patients() -> None:
    """Twice p (a quarter of them): b. Twice q: a. Both: a, which is higher by more in q."""
    found = rank_arms({"a": one_run(p=0.5, q=0.9), "b": one_run(p=0.6, q=0.4)}, resamples=20_000)
    assert found["a"].best == pytest.approx(0.75, abs=0.015)
    assert found["b"].best == pytest.approx(0.25, abs=0.015)
    assert [rank.mean for rank in found.values()] == [1.5, 1.5]
    assert (found["a"].low, found["a"].high) == (1.0, 2.0)


def test_an_arm_that_is_best_in_every_patient_is_always_first() -> None:
    arms = {
        "low": one_run(p=0.1, q=0.2),
        "high": one_run(p=0.3, q=0.4),
        "mid": one_run(p=0.2, q=0.3),
    }
    found = rank_arms(arms, resamples=50)
    assert list(found) == ["low", "high", "mid"]
    assert [(rank.mean, rank.best) for rank in found.values()] == [(3, 0), (1, 1), (2, 0)]
    assert [(rank.low, rank.high) for rank in found.values()] == [(3, 3), (1, 1), (2, 2)]


def test_arms_that_tie_share_their_places() -> None:
    runs = {(0, seed): {"p": score, "q": score} for seed, score in enumerate((0.1, 0.2, 0.3))}
    swapped = {(0, 2 - seed): scores for (_, seed), scores in runs.items()}  # 0.6 but for rounding
    found = rank_arms({"a": runs, "b": swapped, "c": one_run(p=0.0, q=0.0)}, resamples=50)
    assert [rank.best for rank in found.values()] == [0.5, 0.5, 0.0]
    assert [rank.mean for rank in found.values()] == [1.5, 1.5, 3.0]
    assert (found["a"].low, found["a"].high) == (1.5, 1.5)


def test_runs_of_a_patient_are_averaged_first() -> None:
    """Seed 0 alone would put b first."""
    a = {(0, 0): {"p": 0.4}, (0, 1): {"p": 0.8}}
    b = {(0, 0): {"p": 0.5}, (0, 1): {"p": 0.5}}
    assert rank_arms({"a": a, "b": b}, resamples=10)["a"].best == 1


def test_patients_are_resampled_within_their_folds() -> None:
    """One patient per fold: every resample is the cohort, in which a is higher."""
    a = {(0, 0): {"p": 0.9}, (1, 0): {"q": 0.1}}
    b = {(0, 0): {"p": 0.1}, (1, 0): {"q": 0.8}}
    found = rank_arms({"a": a, "b": b}, resamples=200)
    assert (found["a"].best, found["b"].best) == (1, 0)


def test_the_same_seed_gives_the_same_ranks() -> None:
    arms = {"a": one_run(p=0.5, q=0.9, r=0.2), "b": one_run(p=0.6, q=0.4, r=0.3)}
    assert rank_arms(arms, seed=1) == rank_arms(arms, seed=1) != rank_arms(arms, seed=2)
    body = rank_arms(arms, resamples=10)["a"].to_json()
    assert json.loads(json.dumps(body)) == body


def test_arms_of_other_patients_are_refused() -> None:
    with pytest.raises(DataError, match="only one of a and b has patient q in fold 0"):
        rank_arms({"a": one_run(p=0.5, q=0.5), "b": one_run(p=0.5)})
    with pytest.raises(DataError, match="no arm to rank"):
        rank_arms({})
