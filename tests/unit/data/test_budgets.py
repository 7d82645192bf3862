"""Budgets of labelled target patients: nested, balanced, validated on where there are enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from medtl.data.case import Case
from medtl.data.splits import Budget, draw_budget, read_splits, split_patients, write_splits
from medtl.errors import ConfigError


def cohort(patients: int, studies: int = 1, strata: int = 1, sites: int = 1) -> list[Case]:
    return [
        Case(f"p{p:03}_{s}", f"p{p:03}", {}, stratum=f"k{p % strata}", site=f"s{p // 7 % sites}")
        for p in range(patients)
        for s in range(studies)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_smaller_budgets_are_part_of_larger_ones(seed: int) -> None:
    cases = cohort(60, strata=3, sites=2)
    split = split_patients(cases, seed=1)
    every = [draw_budget(split, cases, n, seed=seed) for n in range(1, 41)]
    for n, (small, large) in enumerate(pairwise(every), 1):
        assert len(small) == n
        assert set(small.train) <= set(large.train)
        assert set(small.val) <= set(large.val)
    assert every[-1] == Budget(split.train, split.val)


def test_no_test_patient_is_in_a_budget_and_validation_stays_validation() -> None:
    cases = cohort(60)
    split = split_patients(cases, seed=0)
    budget = draw_budget(split, cases, 20, seed=0)
    assert set(budget.train) <= set(split.train)
    assert set(budget.val) <= set(split.val)
    assert len(budget.val) == 4  # a fifth, as in the split


def test_few_patients_are_not_validated_on() -> None:
    cases = cohort(60)
    split = split_patients(cases, seed=0)
    assert not draw_budget(split, cases, 9, seed=0).val
    assert len(draw_budget(split, cases, 10, seed=0).val) == 1


def test_a_budget_has_each_groups_share() -> None:
    cases = cohort(120, strata=4)
    split = split_patients(cases, seed=0)
    strata = {case.patient: case.stratum for case in cases}
    for wanted in (4, 8, 40):
        budget = draw_budget(split, cases, wanted, seed=5)
        counts = Counter(strata[p] for p in (*budget.train, *budget.val))
        assert len(counts) == 4
        assert max(counts.values()) - min(counts.values()) <= 2


def test_a_share_counts_the_patients_outside_of_the_test_set() -> None:
    cases = cohort(50)
    split = split_patients(cases, seed=0)  # 40 are left
    assert len(draw_budget(split, cases, 0.25, seed=0)) == 10


def test_seeds_draw_other_patients() -> None:
    cases = cohort(50)
    split = split_patients(cases, seed=0)
    assert len({draw_budget(split, cases, 5, seed=seed).train for seed in range(6)}) == 6


def test_only_patients_of_the_target_are_counted() -> None:
    cases = cohort(50)
    split = split_patients(cases, seed=0)
    target = [case for case in cases if int(case.patient[1:]) < 20]
    with pytest.raises(ConfigError, match=r"has 1[0-9] labelled patients"):
        draw_budget(split, target, 30, seed=0)


def test_a_budget_comes_back_from_the_file(tmp_path: Path) -> None:
    cases = cohort(50, studies=2)
    split = split_patients(cases, seed=0)
    split = replace(split, budget=draw_budget(split, cases, 12, seed=0))
    write_splits(tmp_path / "splits.json", split, cases)
    assert read_splits(tmp_path / "splits.json", cases) == split


def test_a_file_whose_budget_is_not_trained_on_is_refused(tmp_path: Path) -> None:
    cases = cohort(50)
    split = split_patients(cases, seed=0)
    wrong = replace(split, budget=Budget((split.test[0],), ()))
    write_splits(tmp_path / "splits.json", wrong, cases)
    with pytest.raises(ConfigError, match="neither train nor val"):
        read_splits(tmp_path / "splits.json", cases)
