"""What the benchmarks on pictures read of runs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("arms")


def test_benchmarks_read_the_transfers_last_stage_and_patients_not_dates(
    tmp_path: Path, arms: ModuleType
) -> None:
    (tmp_path / "stages.json").write_text(json.dumps(["head", "all"]))
    (tmp_path / "predictions.csv").write_text(
        "stage,case,patient,class,p_no_tumor,p_tumor,predicted\n"
        "head,TCGA_CS_4941_19960909_1,x,tumor,0.9,0.1,no_tumor\n"
        "all,TCGA_CS_4941_19960909_1,x,tumor,0.25,0.75,tumor\n"
        "all,TCGA_CS_4941_20010101_2,x,tumor,0.5,0.5,no_tumor\n"
        "control_a,TCGA_CS_4941_19960909_1,x,tumor,1,0,no_tumor\n"
    )
    rows = arms.rows_of(tmp_path)
    assert [row["probability"] for row in rows] == [
        {"no_tumor": 0.25, "tumor": 0.75}, {"no_tumor": 0.5, "tumor": 0.5},
    ]  # fmt: skip
    assert {arms.tcga_patient(row["case"]) for row in rows} == {"TCGA_CS_4941"}
    assert [row["predicted"] for row in arms.rows_of(tmp_path, "head")] == ["no_tumor"]


def test_arm_of_other_data_is_not_read_as_this_one(tmp_path: Path, arms: ModuleType) -> None:
    run = tmp_path / "arm"
    run.mkdir()
    (run / "summary.json").touch()
    (tmp_path / "arm.words.json").write_text('["lgg-mri", "--data", "a", "--steps", "2"]')
    assert arms.train(run, "lgg-mri", "--data", Path("a"), "--steps", 2) == run
    with pytest.raises(SystemExit, match="arm was trained with other settings; remove it"):
        arms.train(run, "lgg-mri", "--data", Path("b"), "--steps", 2)
