"""Files and folders have names that every system can hold, and no two cases share one."""

from __future__ import annotations

import csv
import os
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import pytest

from medtl.errors import DataError
from medtl.runtime.files import (
    check_apart,
    file_name,
    from_home,
    open_regular,
    portable,
    read_cell,
    read_regular,
    real_path,
    write_csv,
)
from medtl.runtime.run_folder import append_line, start_run, write_text

ODD = ["CON", "con.T1", "aux ", "nul", "COM1.a", "LPT9", "a:b", 'a<b>c"d', "a|b?c*", "dot.", "gap "]
ODD += ["50%", "%3A", "a\tb"]
PLAIN = ["BraTS2021_00001", "TCGA_CS_4941.1", "consul", "com10", "Müller 3 (left)", "a.b-c+d=e,f"]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_names_stay_as_they_are(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize("text", ODD)
def test_odd_names_become_files_that_windows_can_hold(text: str) -> None:
    name = file_name(text)
    for whole in (name, f"{name}.nii.gz"):
        assert not PureWindowsPath(whole).is_reserved()
        assert not set(whole) & set('<>:"/\\|?*') and whole.isprintable()
    assert not name.endswith((".", " "))
    assert unquote(name) == text  # so that no two texts share a name


def test_cases_that_differ_in_capitals_or_accents_alone_are_refused() -> None:
    check_apart(["a1", "a2", "b"])
    with pytest.raises(DataError, match=r"Case1\.nii and case1\.nii would be one file"):
        check_apart(["Case1.nii", "x", "case1.nii"])
    with pytest.raises(DataError, match="one file"):
        check_apart(["é", "e\u0301"])


def test_a_run_of_a_task_by_its_full_name_has_no_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start_run("brats:brats", "core:scratch", None).path.name == "brats-scratch-01"


def test_text_is_written_with_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\nb\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\nb\n"
    append_line(tmp_path / "b", {"step": 1})
    assert (tmp_path / "b").read_bytes() == b'{"step": 1}\n'


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe, circle = tmp_path / "pipe", tmp_path / "circle"
    os.mkfifo(pipe)
    circle.symlink_to(circle.name)
    for path, reason in ((pipe, "a pipe"), (tmp_path, "a folder"), (Path("/dev/null"), "a device")):
        with pytest.raises(OSError, match=reason):
            open_regular(path)
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(circle)


def test_links_in_a_circle_have_a_path(tmp_path: Path) -> None:
    circle, link = tmp_path / "circle", tmp_path / "link"
    circle.symlink_to(circle.name)
    link.symlink_to(tmp_path)
    assert real_path(circle) == circle
    assert real_path(link / "below") == (link / "below").resolve() == tmp_path / "below"
    assert from_home(portable(circle)) == circle


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than"):
        read_regular(path, 4)


def test_cells_that_a_spreadsheet_would_compute_are_text(tmp_path: Path) -> None:
    cells = ["=1+1", "+x", "-x", "@x", "'=1", "plain", "-1.5", "+2e-3", 3, -4.5, None, "'quoted"]
    write_csv(tmp_path / "t.csv", [f"c{n}" for n in range(len(cells))], [cells])
    with (tmp_path / "t.csv").open(newline="") as file:
        written = list(csv.reader(file))[1]
    assert written[:8] == ["'=1+1", "'+x", "'-x", "'@x", "''=1", "plain", "-1.5", "+2e-3"]
    assert [read_cell(text) for text in written[:8]] == cells[:8]
    assert read_cell("'quoted") == "'quoted"
