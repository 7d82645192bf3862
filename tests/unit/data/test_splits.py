"""Splits: by patient, balanced, the same everywhere, and readable by nnU-Net."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from medtl.data.case import Case
from medtl.data.splits import Split, cases_of, read_splits, split_patients, write_splits
from medtl.errors import ConfigError


def cohort(patients: int, studies: int = 1, strata: int = 1, sites: int = 1) -> list[Case]:
    return [
        Case(f"p{p:03}_{s}", f"p{p:03}", {}, stratum=f"k{p % strata}", site=f"s{p // 7 % sites}")
        for p in range(patients)
        for s in range(studies)
    ]


def everyone(split: Split) -> list[str]:
    return sorted((*split.train, *split.val, *split.test))


@pytest.mark.parametrize("seed", range(5))
def test_each_patient_is_on_one_side(seed: int) -> None:
    cases = cohort(40, studies=3)
    split = split_patients(cases, seed=seed)
    assert everyone(split) == sorted({case.patient for case in cases})
    assert (len(split.train), len(split.val), len(split.test)) == (26, 6, 8)


def test_split_does_not_depend_on_the_order_of_cases() -> None:
    cases = cohort(33, studies=2, strata=3, sites=4)
    expected = split_patients(cases, seed=7)
    for _ in range(5):
        random.shuffle(cases)
        assert split_patients(cases, seed=7) == expected


def test_split_is_the_same_on_every_machine() -> None:
    assert split_patients(cohort(10), seed=0).test == ("p001", "p006")


def test_seeds_give_different_splits() -> None:
    cases = cohort(40)
    assert len({split_patients(cases, seed=seed).test for seed in range(10)}) == 10


def test_every_patient_is_tested_about_equally_often() -> None:
    cases = cohort(20, strata=2)
    counts = Counter(p for seed in range(400) for p in split_patients(cases, seed=seed).test)
    # 400 draws at 20%: mean 80, standard deviation 8.
    assert all(48 <= counts[case.patient] <= 112 for case in cases)


@pytest.mark.parametrize("seed", range(5))
def test_strata_give_their_share_to_within_one_patient(seed: int) -> None:
    cases = [
        Case(str(i), str(i), {}, stratum="rare" if i < 12 else "common", site=f"s{i % 3}")
        for i in range(60)
    ]
    split = split_patients(cases, seed=seed, test_fraction=0.25)
    rare = sum(int(patient) < 12 for patient in split.test)
    assert len(split.test) == 15
    assert abs(rare - 3) <= 1
    for site in range(3):
        assert abs(sum(int(p) >= 12 and int(p) % 3 == site for p in split.test) - 4) <= 1


@pytest.mark.parametrize("patients", range(2, 12))
def test_tiny_cohort_keeps_a_training_and_a_test_patient(patients: int) -> None:
    split = split_patients(cohort(patients), seed=1)
    assert len(split.train) >= 1
    assert len(split.test) >= 1
    assert len(everyone(split)) == patients


def test_fewer_than_ten_patients_spare_none_for_validation() -> None:
    assert split_patients(cohort(11), seed=0).val == ()  # 9 beside the test patients
    assert len(split_patients(cohort(13), seed=0).val) == 2  # 10
    assert len(split_patients(cohort(6), seed=0, val_fraction=0.2).val) == 1  # asked for


def test_fraction_zero_leaves_a_side_empty() -> None:
    split = split_patients(cohort(12), seed=0, test_fraction=0, val_fraction=0)
    assert (split.val, split.test) == ((), ())


def test_test_patients_can_be_named() -> None:
    cases = cohort(6, studies=2)
    split = split_patients(cases, seed=0, test=["p003", "p001_1"])
    assert split.test == ("p001", "p003")
    with pytest.raises(ConfigError, match="'p03'; did you mean 'p003'"):
        split_patients(cases, seed=0, test=["p03"])
    with pytest.raises(ConfigError, match="none is left to train on"):
        split_patients(cases, seed=0, test=[case.id for case in cases])


@pytest.mark.parametrize("patients", [0, 1])
def test_too_few_patients_are_refused(patients: int) -> None:
    with pytest.raises(ConfigError, match="cannot be divided"):
        split_patients(cohort(patients), seed=0)


def test_fraction_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="test_fraction"):
        split_patients(cohort(5), seed=0, test_fraction=1.0)


def test_patient_on_two_sides_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="patient b is in train and test"):
        Split(train=("a", "b"), val=(), test=("b",))


def test_written_split_is_an_nnunet_list_with_patients_beside(tmp_path: Path) -> None:
    cases = cohort(12, studies=2)
    split = split_patients(cases, seed=3)
    path = tmp_path / "splits.json"
    write_splits(path, split, cases)
    (fold,) = json.loads(path.read_text())
    assert {"train", "val"} <= set(fold)
    assert fold["train"] == [case.id for case in cases_of(split.train, cases)]
    assert fold["patients"]["p004_1"] == "p004"
    assert read_splits(path) == split
    assert read_splits(path, cases) == split
    assert [p.name for p in tmp_path.iterdir()] == ["splits.json"]


def test_plain_nnunet_file_is_read_by_fold(tmp_path: Path) -> None:
    cases = cohort(4, studies=2)
    ids = [case.id for case in cases]
    path = tmp_path / "splits_final.json"
    folds = [{"train": ids[2:], "val": ids[:2]}, {"train": ids[:6], "val": ids[6:]}]
    path.write_text(json.dumps(folds))
    assert read_splits(path, cases, fold=1) == Split(("p000", "p001", "p002"), ("p003",), ())
    with pytest.raises(ConfigError, match="has 2 folds"):
        read_splits(path, cases, fold=2)


def test_file_that_splits_a_patient_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["p000_0", "p001_0"], "val": ["p000_1"]}]))
    with pytest.raises(ConfigError, match=r"splits_final.json: patient p000 is in train and val"):
        read_splits(path, cohort(2, studies=2))


BAD_FILES = {
    "text": "no json",
    "object": '{"train": ["p000_0"]}',
    "no training": '[{"train": [], "val": ["p000_0"]}]',
    "numbers": '[{"train": [1]}]',
    "unknown case": '[{"train": ["p009_0"]}]',
    "odd patients": '[{"train": ["p000_0"], "patients": ["p000"]}]',
    "binary": "\0",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_split_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my_splits.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"my_splits\.json"):
        read_splits(path, cohort(2))


def test_missing_split_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json"):
        read_splits(tmp_path / "absent.json")
