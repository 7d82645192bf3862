"""What a folder holds, as `medtl data info` says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_files import Scan, write_scan
from terminal import Terminal

from medtl import api
from medtl.errors import DataError, UnknownNameError


def test_series_of_dicom(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path / "a", scan.of(SeriesDescription="AX FLAIR"))
    write_scan(tmp_path / "b", scan.of(SeriesDescription="AX T1 POST"))
    paths = write_scan(tmp_path / "c", scan.of(SeriesDescription="AX T2"))
    paths[3].unlink()
    found = api.data_info(tmp_path)
    assert found.format == "DICOM"
    rows = {row["description"]: row for row in found.rows()}
    assert {name: row["shows"] for name, row in rows.items()} == {
        "AX FLAIR": "flair", "AX T1 POST": "t1ce", "AX T2": "t2"
    }  # fmt: skip
    assert rows["AX FLAIR"]["shape"] == [40, 48, 7]
    assert rows["AX FLAIR"]["spacing_mm"] == [0.8, 1.1, 3.0]
    assert "1 slice is missing" in rows["AX T2"]["problem"]
    assert len({row["study"] for row in found.rows()}) == 1
    for text in ("Surname", "ID-4711", scan.study):
        assert text not in json.dumps(found.to_json())
    (path,) = {row["path"] for row in found.rows()}
    assert path == ""
    told = {row["description"]: row["path"] for row in api.data_info(tmp_path, paths=True).rows()}
    assert told["AX FLAIR"] == str(tmp_path / "a" / "000.dcm")


def test_cases_as_a_task_reads_them(small_phantom: Callable[..., Path]) -> None:
    found = api.data_info(small_phantom(cases=3, size=24, sites=2, seed=0))
    assert found.tasks[0] == "brats"
    assert len(found.rows()) == 3
    assert found.synthetic
    row = found.rows()[0]
    assert row["images"] == "flair, t1, t1ce, t2"
    assert row["shape"] == [24, 24, 24]
    assert row["labelled"] is True


def test_printed_and_as_json(
    small_phantom: Callable[..., Path], medtl: Terminal, tmp_path: Path
) -> None:
    data = small_phantom(cases=3, size=24, sites=2, seed=0)
    out, err = medtl("data", "info", data, "--json")
    assert json.loads(out) == api.data_info(data).to_json()
    assert err == ""
    assert "3 cases, read by brats" in medtl("data", "info", data).out
    assert "no such file or folder" in medtl.refused("data", "info", tmp_path / "nowhere")
    assert "did you mean 'brats'" in medtl.refused("data", "info", data, "--task", "brast")


def test_nothing_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("nothing")
    with pytest.raises(DataError, match="no task reads it"):
        api.data_info(tmp_path)
    with pytest.raises(DataError, match=r"no cases found; understood layouts"):
        api.data_info(tmp_path, task="brats")
    with pytest.raises(UnknownNameError):
        api.data_info(tmp_path, task="nobody")


def test_long_lists_are_cut_where_they_are_printed(small_phantom: Callable[..., Path]) -> None:
    found = api.data_info(small_phantom(cases=22, size=16, sites=1, seed=0))
    (table,) = found.tables()
    assert len(table.rows) == 20
    assert table.notes[0] == "and 2 more (--json lists all)"
    assert len(found.rows()) == 22
