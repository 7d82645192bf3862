"""What kind of shift it is, as ``medtl shift`` tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=12, size=24, sites=2, seed=3)


def label_prior(command, phantom: Path, out: Path, *domains: str) -> dict[str, Any]:
    ends = ("--src", domains[0], "--dst", domains[1])
    command("shift", "--data", phantom, *ends, "--metrics", "mmd", "--out", out, "-q")
    parts = json.loads((out / "attribution.json").read_text())["parts"]
    (found,) = (part for part in parts if part["family"] == "label")
    return dict(found)


def test_labels_of_the_same_patients_are_said_to_be_identical(command, phantom, tmp_path) -> None:
    found = label_prior(command, phantom, tmp_path / "out", "t1", "t2")
    assert found["value"] is None and found["p_adjusted"] is None
    assert found["note"] == "identical: the same patients in both domains; not tested"


def test_labels_of_other_patients_are_tested_with_the_families(command, phantom, tmp_path) -> None:
    domains = ("mod:t1,site:S1", "mod:t1,site:S2")
    found = label_prior(command, phantom, tmp_path / "out", *domains)
    assert found["value"] is not None and 0 < found["p_adjusted"] <= 1
    assert "Bonferroni" not in found["note"]
