"""Parts of the cases, tables of volumes, and cases that cannot be read."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from medtl.data.case import Case
from medtl.errors import ConfigError, DataError, RunError
from medtl.inference.outputs import (
    Attempts,
    Shard,
    check_own,
    write_manifest,
    write_volumes,
)
from medtl.runtime.console import Recorder


def cases(count: int) -> list[Case]:
    return [Case(str(n), str(n), {}) for n in range(count)]


def test_shards_take_every_case_once() -> None:
    every = cases(10)
    parts = [Shard.parse(f"{n}/3").take(every) for n in (1, 2, 3)]
    assert sorted(case.id for part in parts for case in part) == [case.id for case in every]
    assert list(Shard.parse(None).take(every)) == every


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "2", "2/0", "a/b", "-1/4", "1/2/3"])
def test_impossible_shards(text: str) -> None:
    with pytest.raises(ConfigError, match="write NUMBER/OF"):
        Shard.parse(text)


def test_files_of_shards_bear_their_number() -> None:
    assert Shard.parse("2/4").named("volumes.csv") == "volumes-2-of-4.csv"
    assert Shard.parse("1/1").named("volumes.csv") == "volumes.csv"


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_volumes_of_earlier_cases_stay(tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    write_volumes(path, {"b": {"WT": 1.5, "ET": 0.0}})
    write_volumes(path, {"a": {"WT": 2.25}, "b": {"WT": 1.0}})
    assert _rows(path) == [
        {"case": "a", "region": "WT", "ml": "2.250"},
        {"case": "b", "region": "WT", "ml": "1.000"},
    ]


@pytest.mark.parametrize(
    "content", [b"", b"case\nx\n", b"\xff\xfe", b"case,region,ml\na,WT,much\n"]
)
def test_a_damaged_table_of_volumes_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "volumes.csv"
    path.write_bytes(content)
    write_volumes(path, {"a": {"WT": 1.0}})
    assert [row["case"] for row in _rows(path)] == ["a"]


def test_tables_of_others_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    check_own(path)
    write_volumes(path, {"a": {"WT": 1.0}})
    check_own(path)
    path.write_text("subject,ml\nx,3\n")
    with pytest.raises(RunError, match="is no table of medtl's"):
        check_own(path)


def test_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"content")
    files = {"a": [tmp_path / "a.nii.gz", tmp_path / "gone.dcm"]}
    write_manifest(tmp_path / "manifest.json", files, ["b"], "brats, source")
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["cases"] == {"a": {"a.nii.gz": hashlib.sha256(b"content").hexdigest()}}
    assert found["failed"] == ["b"]
    (tmp_path / "c.nii.gz").write_bytes(b"other")
    write_manifest(tmp_path / "manifest.json", {"c": [tmp_path / "c.nii.gz"]}, [], "brats, source")
    assert list(json.loads((tmp_path / "manifest.json").read_text())["cases"]) == ["a", "c"]


def test_cases_that_cannot_be_read_are_passed_over() -> None:
    reporter = Recorder()
    attempts = Attempts(reporter)

    def work(case: Case) -> str:
        if case.id == "1":
            raise DataError("1: broken; fetch it again")
        return case.id * 2

    tried = map(attempts.attempt(work), cases(3))
    assert [(case.id, result) for case, result in attempts.usable(tried)] == [
        ("0", "00"),
        ("2", "22"),
    ]
    assert list(attempts.failed) == ["1"]
    assert reporter.lines == ["warning: left out: 1: broken; fetch it again"]
    assert reporter.warnings == ["left out: 1"]  # which files keep: no path
